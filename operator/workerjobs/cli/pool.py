"""WorkerPools of a Kubernetes cluster: looking at them, and saying how many pods they have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from workerjobs import app
from workerjobs.cli.output import Format, FormatOption, print_json, print_table
from workerjobs.cli.places import chosen
from workerjobs.domain.scaling import MAX_PODS
from workerjobs.errors import InvalidInputError, NotFoundError

pool = typer.Typer(
    help="Pools of worker pods in a Kubernetes cluster, that of KUBECONFIG or of the pod that this runs in.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArgument = Annotated[str, typer.Argument(help="The WorkerPool's name.", show_default=False)]
NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Where it is.", show_default="that of kubectl's current context"),
]


@pool.command("list")
def list_pools(
    namespace: NamespaceOption = None,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Those of all namespaces.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """List WorkerPools with how many pods they have, and why."""
    found = asyncio.run(app.list_pools(namespace, all_namespaces=all_namespaces, context=_context()))
    if output is Format.JSON:
        print_json([_json(each) for each in found])
    elif found:
        names = ("NAMESPACE", "NAME", "WORKERS", "DESIRED", "READY", "BUSY", "DRAINING", "BACKLOG", "REASON")
        fields = ("workers", "desired", "ready", "busy", "draining", "backlog", "reason")
        print_table(
            names,
            [
                (
                    each["metadata"]["namespace"],
                    each["metadata"]["name"],
                    *(str(each.get("status", {}).get(field, "")) for field in fields),
                )
                for each in found
            ],
        )
    else:
        typer.echo("No pools.", err=True)


@pool.command("show")
def show_pool(name: NameArgument, namespace: NamespaceOption = None, output: FormatOption = Format.TABLE) -> None:
    """Show one WorkerPool: what it asks for, how many pods there are, and why."""
    found = _found(asyncio.run(app.read_pool(namespace, name, context=_context())), name)
    if output is Format.JSON:
        print_json(_json(found))
        return
    status = found.get("status", {})
    fields = (
        "workers",
        "desired",
        "replicas",
        "ready",
        "busy",
        "idle",
        "draining",
        "backlog",
        "running",
        "reason",
        "message",
    )
    lines: list[tuple[str, ...]] = [(field.capitalize(), str(status[field])) for field in fields if field in status]
    lines += [
        (each["type"], f"{each['status']}: {each.get('message', each['reason'])}")
        for each in status.get("conditions", ())
    ]
    print_table(("POOL", f"{found['metadata']['namespace']}/{name}"), lines)


@pool.command("scale")
def scale_pool(
    name: NameArgument,
    replicas: Annotated[int, typer.Argument(min=0, max=MAX_PODS, help="So many pods.", show_default=False)],
    namespace: NamespaceOption = None,
) -> None:
    """Set the number of pods, as `kubectl scale` does: it rules over workerCount until the pool is released."""
    changed = _change(name, namespace, {"replicas": replicas})
    where = f"{changed['metadata']['namespace']}/{name}"
    bounds = [f"{field} {changed['spec'][field]}" for field in ("minWorkers", "maxWorkers") if field in changed["spec"]]
    typer.echo(f"The pool {where} is scaled to {replicas}" + (f", within {' and '.join(bounds)}" if bounds else ""))


@pool.command("release")
def release_pool(name: NameArgument, namespace: NamespaceOption = None) -> None:
    """Let workerCount rule again, after `scale`, `kubectl scale`, an HPA or KEDA set a number."""
    changed = _change(name, namespace, {"replicas": None})
    count = changed["spec"].get("workerCount", 1)
    typer.echo(f"The pool {changed['metadata']['namespace']}/{name} is released: workerCount {count} rules")


@pool.command("pause")
def pause_pool(name: NameArgument, namespace: NamespaceOption = None) -> None:
    """Let a pool's pods finish their jobs and go; none come until it is resumed."""
    changed = _change(name, namespace, {"paused": True})
    typer.echo(f"The pool {changed['metadata']['namespace']}/{name} is paused")


@pool.command("resume")
def resume_pool(name: NameArgument, namespace: NamespaceOption = None) -> None:
    """Bring a paused pool's pods back."""
    changed = _change(name, namespace, {"paused": None})
    typer.echo(f"The pool {changed['metadata']['namespace']}/{name} is resumed")


def _context() -> str | None:
    """The kubeconfig's context to use."""
    where = chosen()
    if where.server is not None:
        raise InvalidInputError("WorkerPools are in a cluster: give --context in place of --server")
    return where.kube_context


def _change(name: str, namespace: str | None, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return _found(asyncio.run(app.change_pool(namespace, name, spec, context=_context())), name)


def _found(found: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    if found is None:
        raise NotFoundError(f"There is no WorkerPool {name} in that namespace: see `workerjobs pool list -A`")
    return found


def _json(found: Mapping[str, Any]) -> dict[str, Any]:
    metadata = found["metadata"]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "spec": found.get("spec", {}),
        "status": found.get("status", {}),
    }

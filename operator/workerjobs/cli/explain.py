"""Why a pool has so many pods or workers, and why its jobs wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workerjobs import app
from workerjobs.cli import names
from workerjobs.cli.examples import with_examples
from workerjobs.cli.output import Format, FormatOption, print_json, print_table
from workerjobs.cli.places import at_place, chosen
from workerjobs.domain.explain import PoolFacts, WaitingJobs
from workerjobs.domain.explain import explain as explained
from workerjobs.domain.limits import PauseKind
from workerjobs.domain.words import did_you_mean
from workerjobs.errors import ClusterError, NotFoundError, PlaceRefusedError, PlaceUnavailableError

if TYPE_CHECKING:
    from workerjobs.ports.places import Place

STATUS = ("workers", "desired", "replicas", "ready", "busy", "idle", "draining", "backlog", "running")


@with_examples("workerjobs explain default", "workerjobs --context prod explain reports --namespace shop -o json")
def explain(
    pool: Annotated[
        str,
        typer.Argument(help="Its name; in a cluster the WorkerPool's.", autocompletion=names.pools, show_default=False),
    ],
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace", "-n", help="Of the WorkerPool, with --context.", show_default="that of the context"
        ),
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Say why a pool has so many workers, and why its jobs wait.

    With --context from the WorkerPool's status (what rules, what is wanted and why) and, where the cluster has a
    server, from the tables; else from the tables alone.
    """
    found = _workerpool(pool, namespace) if chosen().is_cluster else None
    try:
        facts = at_place(lambda place: _gather(place, pool if found is None else _pool_of(found), found is not None))
    except (ClusterError, NotFoundError, PlaceUnavailableError, PlaceRefusedError) as error:
        if found is None:
            raise
        # The status says the most; the server is an extra.
        typer.echo(f"Not seen: what waits in the tables. {error}", err=True)
        facts = None
    told = [] if facts is None else explained(facts)
    if output is Format.JSON:
        print_json(
            {
                "pool": pool,
                "workerPool": None if found is None else found.get("status", {}),
                "explanation": [{"topic": str(topic), "sentence": sentence} for topic, sentence in told],
            }
        )
        return
    lines: list[tuple[str, ...]] = []
    if found is not None:
        status = found.get("status", {})
        lines.append(("Pods", f"{status.get('desired', '?')} wanted ({status.get('reason', 'not decided yet')})"))
        lines += [("Why", status["message"])] if status.get("message") else []
        lines.append(("Now", ", ".join(f"{name} {status[name]}" for name in STATUS if name in status)))
        lines += [
            (each["type"], f"{each['status']}: {each.get('message', each['reason'])}")
            for each in status.get("conditions", ())
        ]
    lines += [(str(topic), sentence) for topic, sentence in told]
    print_table(("POOL", pool), lines)


def _workerpool(name: str, namespace: str | None) -> Mapping[str, Any]:
    context = chosen().kube_context
    found = asyncio.run(app.read_pool(namespace, name, context=context))
    if found is None:
        pools = asyncio.run(app.list_pools(namespace, all_namespaces=False, context=context))
        near = did_you_mean(name, [each["metadata"]["name"] for each in pools])
        raise NotFoundError(f"There is no WorkerPool {name} in that namespace.{near}")
    return found


def _pool_of(found: Mapping[str, Any]) -> str:
    # As the operator reads it: its own name where its spec names none.
    return str(found["spec"].get("pool", found["metadata"]["name"]))


async def _gather(place: Place, pool: str, is_known: bool) -> PoolFacts:
    workers, queues, pauses = await place.workers(), await place.queues(), await place.pauses()
    mine = [each for each in workers if each.pool == pool]
    working = [each for each in mine if not each.is_draining]
    pause = next((each for each in pauses if each.kind == PauseKind.POOL and each.name == pool), None)
    pools = {each.pool for each in workers} | {each.pool for each in queues}
    if not is_known and pause is None and pool not in pools:
        raise NotFoundError(f"No worker and no unfinished job is of the pool {pool}.{did_you_mean(pool, pools)}")
    paused_types = {each.name for each in pauses if each.kind == PauseKind.TYPE}
    types = {job_type for each in mine for job_type in each.types}
    return PoolFacts(
        pool,
        workers=len(mine),
        draining=len(mine) - len(working),
        children=sum(each.children for each in working),
        drain_reasons=Counter(reason for each in mine for reason in each.drain_reasons),
        jobs=[
            WaitingJobs(
                each.type,
                each.waiting,
                each.later,
                each.running,
                each.oldest_seconds,
                is_paused=each.type in paused_types,
                is_known=each.type in types,
            )
            for each in queues
            if each.pool == pool
        ],
        is_paused=pause is not None,
        pause_reason=None if pause is None else pause.reason,
    )

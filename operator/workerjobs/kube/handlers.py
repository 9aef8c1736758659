"""The operator's loop over kopf: its only home. Events mark resources as dirty; everything else is `mirror`'s."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

import kopf

from workerjobs.kube.autoscaler import Autoscaler
from workerjobs.kube.mirror import Mirror
from workerjobs.kube.workerjob import GROUP, PLURAL, VERSION
from workerjobs.ports import NoticeSource

log = logging.getLogger(__name__)


async def run(
    mirror: Mirror,
    notices: NoticeSource,
    autoscaler: Autoscaler | None,
    namespaces: Sequence[str],
    stop: asyncio.Event,
) -> None:
    """Run the operator until ``stop`` is set.

    Args:
        mirror: Told of events.
        notices: What the database announces.
        autoscaler: Scales the workers; None leaves them alone.
        namespaces: Watched ones; none means all.
        stop: Ends it.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # As `client` finds the cluster, and without loading the whole of the kubernetes package a second time.
        in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ
        return kopf.login_with_service_account(**kwargs) if in_pod else kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def on_event(event: Any, body: Any, **_: Any) -> None:
        # Only low-level events: handlers for changes would put finalizers and annotations onto the resources.
        if event["type"] == "DELETED":
            mirror.resource_deleted(body["metadata"]["uid"])
        else:
            mirror.resource_seen(dict(body))

    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    # Without watching CRDs and namespaces, which would need rights to list them in the whole cluster.
    settings.scanning.disabled = True
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger("workerjobs").level))
    kopf_stop = asyncio.Event()
    tasks = [
        asyncio.create_task(mirror.run(), name="mirror"),
        asyncio.create_task(mirror.listen(notices), name="notices"),
        asyncio.create_task(
            kopf.operator(
                registry=registry,
                settings=settings,
                standalone=True,
                clusterwide=not namespaces,
                namespaces=list(namespaces),
                stop_flag=kopf_stop,
            ),
            name="kopf",
        ),
    ]
    if autoscaler is not None:
        tasks.append(asyncio.create_task(autoscaler.run(), name="autoscaler"))
    stopping = asyncio.create_task(stop.wait(), name="stop")
    done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    kopf_stop.set()
    for task in (*tasks, stopping):
        if task.get_name() != "kopf":
            task.cancel()
    await asyncio.wait([*tasks, stopping], timeout=10)
    for task in done - {stopping}:
        # kopf answers SIGTERM and SIGINT itself; the others end with an error, or not at all.
        task.result()

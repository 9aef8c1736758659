"""Carrying out what was decided about resources, in a cluster and for manifests that are applied without one."""

from __future__ import annotations

from typing import Protocol

from workerjobs.kube.reconcile import Actions
from workerjobs.ports.jobs import JobStore
from workerjobs.ports.resources import ResourceStore


class Store(JobStore, ResourceStore, Protocol):
    """The table, with what it knows of resources."""


CANCELLED = "Job cancelled by its WorkerJob"


async def carry_out(store: Store, cluster_id: str, actions: Actions) -> None:
    """Hold rows back, let them go on, cancel and remove them. First, newer and next rows are written by the caller."""
    if actions.suspend:
        await store.suspend_resources(cluster_id, actions.suspend)
    if actions.resume:
        await store.resume_resources(cluster_id, actions.resume)
    if actions.cancel:
        await store.cancel([job_id for ids in actions.cancel.values() for job_id in ids], CANCELLED)
    if actions.keep:
        await store.keep_history(cluster_id, actions.keep)

"""Manifests without a cluster: what the operator does with WorkerJobs, done here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from workerjobs.app.databases import open_store
from workerjobs.domain.job import Job, NewJob
from workerjobs.kube.carrying import carry_out
from workerjobs.kube.reconcile import Resource, reconcile

_APPLY_ROUNDS = 6
"""Applying a manifest is done after two, or some more where several of its fields changed."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying one manifest without a cluster did."""

    name: str
    action: str
    """created, configured, unchanged or restored."""
    job_id: int | None
    state: str | None


async def apply_locally(url: str, jobs: Sequence[NewJob]) -> list[Applied]:
    """Put the jobs of manifests into the table, as the operator does it in a cluster.

    Args:
        url: The database.
        jobs: Each with its `NewJob.resource`; all of one cluster id, each resource once.
    """
    known = {job.resource.uid: _with_generation(job) for job in jobs if job.resource is not None}
    if not known:
        return []
    cluster_id = next(job.resource.cluster_id for job in known.values() if job.resource is not None)
    resources = {uid: _as_resource(job) for uid, job in known.items()}
    done: dict[str, str] = {}
    async with open_store(url) as store:
        now = await store.now()
        for _ in range(_APPLY_ROUNDS):
            rows = await store.rows_of(cluster_id, list(known))
            states = await store.states_of(cluster_id, list(known))
            actions = reconcile(resources.values(), _marked(rows, known), states, {}, now=now)
            changed = {job.resource.uid: "configured" for job in actions.update if job.resource is not None}
            changed |= dict.fromkeys((*actions.suspend, *actions.resume, *actions.cancel), "configured")
            changed |= {job.resource.uid: "restored" for job in actions.restore if job.resource is not None}
            for job in actions.submit:
                assert job.resource is not None
                changed[job.resource.uid] = "configured" if states[job.resource.uid].run_keys else "created"
            await store.submit(actions.submit)
            await store.update_pending(cluster_id, actions.update)
            await store.ensure_cron(actions.restore)
            await carry_out(store, cluster_id, actions)
            done = changed | done
            if not changed:
                break
        rows = await store.rows_of(cluster_id, list(known))
    applied = []
    for uid, applied_one in resources.items():
        newest = rows[uid][-1] if uid in rows else None
        state = str(newest.state) if newest else None
        applied.append(Applied(applied_one.name, done.get(uid, "unchanged"), newest.id if newest else None, state))
    return applied


def _as_resource(job: NewJob) -> Resource:
    assert job.resource is not None
    return Resource(job.resource.uid, job.resource.namespace, job.resource.name, job.resource.generation, job)


def _marked(rows: Mapping[str, Sequence[Job]], known: Mapping[str, NewJob]) -> dict[str, list[Job]]:
    """Mark rows of another generation as of none: without a cluster a generation is not older or newer, but another."""

    def mark(uid: str, row: Job) -> Job:
        resource = known[uid].resource
        assert resource is not None
        is_same = row.resource_generation == resource.generation
        return row if is_same else msgspec.structs.replace(row, resource_generation=None)

    return {uid: [mark(uid, row) for row in mine] for uid, mine in rows.items()}


def _with_generation(job: NewJob) -> NewJob:
    """Number a manifest by what it says: without a cluster nobody counts its changes."""
    assert job.resource is not None
    digest = hashlib.sha256(repr(replace(job, resource=None)).encode()).digest()
    return replace(job, resource=replace(job.resource, generation=int.from_bytes(digest[:7])))

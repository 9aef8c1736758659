"""Values for tests, with every field filled but those that a test is about."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import msgspec

from workerjobs.domain.job import Job, NewJob, ResourceRef

NOON = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def running_job(**changes: Any) -> Job:
    """A claimed row."""
    job = Job(
        id=7,
        type="report",
        user_id=0,
        data_json="{}",
        due=NOON,
        started=NOON,
        finished=None,
        success=None,
        result_json=None,
        cron_schedule=None,
        persistent=False,
        tag=None,
        remove_at=None,
        remove_delay_ms=0,
        auto_reschedule_on_failure=False,
        auto_reschedule_on_failure_delay_ms=0,
        rescheduled_from_job=None,
        created_at=NOON,
        updated_at=NOON,
        priority=0,
        attempt=1,
        rescues=0,
        cron_key=None,
        tick=None,
        time_zone=None,
        retry_limit=None,
        retry_initial_delay_ms=None,
        retry_factor=None,
        retry_max_delay_ms=None,
        timeout_ms=None,
        pool="default",
        lease_owner="somebody",
        lease_deadline=NOON,
        fencing_token=3,
        cancel_requested=False,
        progress_json=None,
        cluster_id=None,
        namespace=None,
        resource_name=None,
        resource_uid=None,
        resource_generation=None,
        traceparent=None,
    )
    return msgspec.structs.replace(job, **changes)


def resource_job(uid: str, *, generation: int = 1, cluster_id: str = "here", **changes: Any) -> NewJob:
    """A job of a custom resource."""
    resource = ResourceRef(cluster_id, "shop", f"job-{uid}", uid, generation)
    return dataclasses.replace(NewJob(type="report", resource=resource), **changes)

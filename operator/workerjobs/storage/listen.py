"""Listening to what the database announces, across lost connections; behind a pooler, looking again and again."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import psycopg
from psycopg import sql

from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError
from workerjobs.ports.notices import (
    CancelNotice,
    DueNotice,
    LimitedNotice,
    MarkNotice,
    Notice,
    NotificationNotice,
    PlanNotice,
    Reconnected,
    ResourceNotice,
    SettingsNotice,
    WorkerNotice,
)
from workerjobs.storage.connection import connect, is_pooled

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)
JOBS, NOTIFICATIONS = "workerJobs", "workerNotifications"
"""The channels."""
POLL_SECONDS = 2.0
"""How often a worker looks for what it can't hear of."""


class PostgresListener:
    """A `NoticeSource` over LISTEN, on a connection of its own.

    Args:
        url: The database.
        application_name: What the server's list of sessions calls the connection.
        is_direct: The URL is DATABASE_DIRECT_URL: whatever stands between there keeps the session. Any other URL that
            leads through a pooler is not listened to but polled.
        poll_seconds: How often that is.
        channel: What to listen to.
    """

    def __init__(
        self,
        url: str,
        application_name: str,
        *,
        is_direct: bool = False,
        poll_seconds: float = POLL_SECONDS,
        channel: str = JOBS,
    ) -> None:
        self._url = url
        self._application_name = application_name
        self._is_direct = is_direct
        self._poll_seconds = poll_seconds
        self._channel = channel
        self._is_listening = False

    @property
    def is_listening(self) -> bool:
        """See `NoticeSource.is_listening`; False while it polls."""
        return self._is_listening

    async def notices(self) -> AsyncIterator[Notice]:
        """Yield what is announced, for ever; see `NoticeSource`."""
        failures = 0
        while True:
            try:
                connection = await connect(self._url, self._application_name)
            except (DatabaseUnavailableError, DatabaseRefusedError) as error:
                log.log(logging.WARNING if failures == 0 else logging.DEBUG, "Can't listen to the database: %s", error)
                await asyncio.sleep(_BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)])
                failures += 1
                if self._is_direct:
                    # The other URL may well work, and its jobs must not wait for this one.
                    yield Reconnected()
                continue
            try:
                if not self._is_direct and await is_pooled(connection):
                    break
                await connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._channel)))
                failures = 0
                self._is_listening = True
                yield Reconnected()
                async for notification in connection.notifies():
                    if (notice := _parse(notification.payload)) is not None:
                        yield notice
            except psycopg.OperationalError as error:
                log.warning("Listening to the database was interrupted: %s", str(error).strip().splitlines()[:1])
            finally:
                self._is_listening = False
                await connection.close()
        log.warning(
            "The database is behind a pooler and DATABASE_DIRECT_URL is not set: looking for news every %g s",
            self._poll_seconds,
        )
        while True:
            yield Reconnected()
            await asyncio.sleep(self._poll_seconds)


def _parse(payload: str) -> Notice | None:
    """Read an announcement; anything else on the channel is someone else's business."""
    try:
        match json.loads(payload):
            case {"kind": "due", "pool": str(pool), "seconds": int() | float() as seconds, **rest}:
                job_type, job_id = rest.get("type"), rest.get("id")
                return DueNotice(
                    pool,
                    float(seconds),
                    job_type if isinstance(job_type, str) else None,
                    job_id if isinstance(job_id, int) else None,
                )
            case {"kind": "limited", "pool": str(pool)}:
                return LimitedNotice(pool)
            case {"kind": "settings"}:
                return SettingsNotice()
            case {"kind": "plan"}:
                return PlanNotice()
            case {"kind": "cancel", "jobId": int(job_id)}:
                return CancelNotice(job_id)
            case {"kind": "resource", "clusterId": str(cluster_id), "uid": str(uid)}:
                return ResourceNotice(cluster_id, uid)
            case {"kind": "worker", "owner": str(owner)}:
                return WorkerNotice(owner)
            case {"kind": "created" | "revoked" | "restored" | "broadcast" as kind, "ids": [*ids]}:
                return NotificationNotice(tuple(int(each) for each in ids), kind == "broadcast")
            case {"kind": "mark", "mark": int(mark)}:
                return MarkNotice(mark)
    except (ValueError, TypeError, RecursionError):
        pass
    log.debug("Not understood: %r", payload)
    return None

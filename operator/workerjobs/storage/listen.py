"""Listening to what the database announces, across lost connections."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import psycopg

from workerjobs.errors import DatabaseRefusedError, DatabaseUnavailableError
from workerjobs.ports import (
    CancelNotice,
    DueNotice,
    LimitedNotice,
    Notice,
    Reconnected,
    ResourceNotice,
    SettingsNotice,
)
from workerjobs.storage.connection import connect

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)


class PostgresListener:
    """A `NoticeSource` over LISTEN, on a connection of its own."""

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._application_name = application_name

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
                continue
            try:
                await connection.execute('listen "workerJobs"')
                failures = 0
                yield Reconnected()
                async for notification in connection.notifies():
                    if (notice := _parse(notification.payload)) is not None:
                        yield notice
            except psycopg.OperationalError as error:
                log.warning("Listening to the database was interrupted: %s", str(error).strip().splitlines()[:1])
            finally:
                await connection.close()


def _parse(payload: str) -> Notice | None:
    """Read an announcement; anything else on the channel is someone else's business."""
    try:
        match json.loads(payload):
            case {"kind": "due", "pool": str(pool), "seconds": int() | float() as seconds, **rest}:
                job_type = rest.get("type")
                return DueNotice(pool, float(seconds), job_type if isinstance(job_type, str) else None)
            case {"kind": "limited", "pool": str(pool)}:
                return LimitedNotice(pool)
            case {"kind": "settings"}:
                return SettingsNotice()
            case {"kind": "cancel", "jobId": int(job_id)}:
                return CancelNotice(job_id)
            case {"kind": "resource", "clusterId": str(cluster_id), "uid": str(uid)}:
                return ResourceNotice(cluster_id, uid)
    except (ValueError, RecursionError):
        pass
    log.debug("Not understood on the channel workerJobs: %r", payload)
    return None

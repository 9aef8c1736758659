"""Sample jobs, for the demo and for copying. Workers know them with ``WORKER_JOB_MODULES=workerjobs.jobs.samples``."""

from __future__ import annotations

import asyncio
import os
import time
import urllib.error
import urllib.request
from typing import Any

from workerjobs.jobs.context import JobContext
from workerjobs.jobs.registry import job
from workerjobs.settings import HEALTH_URL_VARIABLE


@job("httpRequest")
def http_request(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Ask a URL and check its answer.

    Data: url (http or https; without it, the worker's own health endpoint), method (GET), headers ({}), body (text),
    expectStatus (200), timeoutSeconds (10).
    """
    url = data.get("url") or os.environ.get(HEALTH_URL_VARIABLE)
    if not url or not url.startswith(("http://", "https://")):
        raise ValueError(f"url is {url!r}: give an http or https address")
    request = urllib.request.Request(  # noqa: S310  # the scheme was checked
        url,
        method=data.get("method", "GET"),
        headers=data.get("headers", {}),
        data=data["body"].encode() if "body" in data else None,
    )
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=data.get("timeoutSeconds", 10)) as response:  # noqa: S310
            status, body = response.status, response.read(1000)
    except urllib.error.HTTPError as error:
        status, body = error.code, error.read(1000)
    milliseconds = round((time.monotonic() - began) * 1000)
    context.log.info("%s answered %s in %s ms", url, status, milliseconds)
    expected = data.get("expectStatus", 200)
    if status != expected:
        raise RuntimeError(f"{url} answered {status}, not {expected}")
    return {"status": status, "milliseconds": milliseconds, "body": body.decode(errors="replace")}


@job("countPrimes")
def count_primes(data: dict[str, Any]) -> dict[str, int]:
    """Count the primes up to a number: work for a CPU, which runs in a process of its own.

    Data: upTo (100000).
    """
    up_to = int(data.get("upTo", 100_000))
    sieve = bytearray([1]) * (up_to + 1)
    sieve[0:2] = bytes(min(2, up_to + 1))
    for number in range(2, int(up_to**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, up_to + 1, number)))
    return {"upTo": up_to, "primes": sum(sieve)}


@job("importRows")
async def import_rows(data: dict[str, Any], context: JobContext) -> dict[str, int]:
    """Work through rows and report progress; an ``async`` job.

    Data: rows (100), delaySeconds (0.05) for each row.
    """
    rows = int(data.get("rows", 100))
    for row in range(1, rows + 1):
        await asyncio.sleep(float(data.get("delaySeconds", 0.05)))
        context.progress(row, rows, f"row {row}")
    return {"imported": rows}


@job("failTwice")
def fail_twice(data: dict[str, Any], context: JobContext) -> dict[str, int]:
    """Fail on the first attempts and succeed after them, to show retries.

    Data: failures (2).
    """
    failures = int(data.get("failures", 2))
    if context.attempt <= failures:
        raise RuntimeError(f"attempt {context.attempt} fails, as it was asked to ({failures} failures)")
    return {"succeededAtAttempt": context.attempt}

"""chainWebhook: delivers a log to an address on the web, signed; retries are those of its job.

Source:
    Signatures: standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

from workerjobs.errors import WorkerJobsError
from workerjobs.jobs.context import JobContext

TIMEOUT_SECONDS = 10.0
SECRET_PREFIX = "whsec_"  # noqa: S105  # the beginning of any secret, as the specification has it


class WebhookError(WorkerJobsError):
    """A webhook was not delivered."""


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a webhook.

    Args:
        secret: ``whsec_`` and base64, or any text.
        message_id: The same for every try of one delivery.
        timestamp: Seconds since 1970.
        body: What is sent.
    """
    key = secret.encode()
    if secret.startswith(SECRET_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            raise WebhookError(f"the secret begins with {SECRET_PREFIX} and goes on as no base64") from None
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """What is signed for one address is not sent to another."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


async def deliver(data: dict[str, Any], context: JobContext) -> dict[str, Any]:
    """Post a log to an address; anything but an answer of 200 to 299 is an error, and tried again.

    Data: url, body (what is sent, as JSON), secretEnv (the worker's variable that holds the secret).
    """
    secret = os.environ.get(data["secretEnv"], "")
    if not secret:
        raise WebhookError(f"the worker has no variable {data['secretEnv']}, which should hold the webhook's secret")
    body = json.dumps(data["body"], separators=(",", ":"), ensure_ascii=False).encode()
    log = data["body"]
    message_id = "_".join(str(log.get(key)) for key in ("chain", "blockHash", "logIndex", "filter"))
    timestamp = int(time.time())
    request = urllib.request.Request(  # noqa: S310  # the scheme was checked where the filter was declared
        data["url"],
        data=body,
        method="POST",
        headers={
            "Content-Type": "application/json",
            "User-Agent": "workerjobs",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(secret, message_id, timestamp, body),
        },
    )
    status = await asyncio.to_thread(_post, request)
    if not 200 <= status < 300:
        raise WebhookError(f"{request.host} answered {status}")
    context.log.info("Delivered %s to %s", message_id, request.host)
    return {"status": status}


def _post(request: urllib.request.Request) -> int:
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        raise WebhookError(f"{request.host} can't be reached: {getattr(error, 'reason', error)}") from None

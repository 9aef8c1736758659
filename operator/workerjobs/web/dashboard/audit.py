"""Who did what."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from workerjobs.web.api import schemas
from workerjobs.web.api.figures import list_audit
from workerjobs.web.api.stores import StoreOfRequest
from workerjobs.web.dashboard.rendering import pages_of

router = APIRouter()

PAGE = 50


@router.get("/audit")
async def show_audit(
    request: Request, store: StoreOfRequest, before: Annotated[schemas.Id | None, Query()] = None
) -> Response:
    """List what was done here and through the API, newest first."""
    found = await list_audit(schemas.AuditQuery(before=before, limit=PAGE), store)
    return pages_of(request).show(
        request, "audit.html", area="audit", entries=found.entries, next=found.next, is_first=before is None
    )

"""The API as a part of the server's application, and its description (OpenAPI)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from workerjobs.settings import ServerSettings
from workerjobs.web.api import cron, events, figures, jobs, pools
from workerjobs.web.api.access import Access
from workerjobs.web.api.changes import Changes
from workerjobs.web.api.limits import SizeLimit
from workerjobs.web.api.problems import MEDIA_TYPE, Problem, handle_problems
from workerjobs.web.api.stores import Stores
from workerjobs.web.api.tokens import Tokens
from workerjobs.web.sessions import Sessions

PREFIX = "/api/v1"
DESCRIPTION = """\
Jobs in a Postgres table, run by workers. Every request shows a token, `Authorization: Bearer …`
(`workerjobs token create NAME --scope read|write`), unless the server listens on a loopback address and has no
`WORKERJOBS_SERVER_TOKEN`. A token of scope `read` may look, one of scope `write` may also change things; what is
changed is noted (`GET /api/v1/audit`).

Lists are read page by page: give `next` of a page as `before` (or `after`) of the next one. Durations without a unit in
their name are milliseconds, as in the table. Errors are problem details (RFC 9457).
"""
PROBLEMS = {
    "401": "No token, or one that is not valid.",
    "403": "The token's scope is not enough, or the page's origin or the host is not accepted.",
    "429": "Too many requests; `Retry-After` says how long to wait.",
    "503": "The database, or a place, is not to be had now; `Retry-After` says how long to wait.",
}
PROBLEMS_OF_INPUT = {"422": "The input has to be corrected; `errors` names each problem."}
PROBLEMS_OF_CHANGES = {"400": "The body can't be read.", "413": "The body is too large."}
PROBLEMS_OF_ONE = {"404": "There is no such thing.", "409": "Its state does not allow that."}


def add_api(
    app: FastAPI, settings: ServerSettings, stores: Stores, changes: Changes, tokens: Tokens, sessions: Sessions
) -> None:
    """Put the API into an application."""
    app.state.stores = stores
    app.state.changes = changes
    router = APIRouter(prefix=PREFIX)
    for part in (jobs, cron, pools, figures, events):
        router.include_router(part.router)
    app.include_router(router)
    handle_problems(app)
    app.add_middleware(Access, settings=settings, tokens=tokens, sessions=sessions)
    app.add_middleware(SizeLimit, limit_bytes=settings.max_body_bytes)

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = get_openapi(
                title=app.title,
                version=app.version,
                description=DESCRIPTION,
                routes=app.routes,
                tags=TAGS,
                servers=[{"url": settings.path_prefix}] if settings.path_prefix else None,
            )
            app.openapi_schema = _with_problems(described)
        return app.openapi_schema

    # As FastAPI's documentation has it ("Extending OpenAPI").
    app.openapi = describe  # type: ignore[method-assign]


TAGS = [
    {"name": "jobs", "description": "Submit, look at, cancel and run again."},
    {"name": "cron", "description": "Jobs that run on a schedule."},
    {"name": "pools and types", "description": "Workers and their pools, job types, pauses."},
    {"name": "figures", "description": "Counts, and who did what."},
    {"name": "events", "description": "Changes as they happen, as server-sent events."},
]


def _with_problems(described: dict[str, Any]) -> dict[str, Any]:
    """Say of each operation which token it needs, and how it may be refused."""
    components = described.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in described["paths"].items():
        for operation in operations.values():
            if path.startswith(PREFIX):
                operation["security"] = [{"token": []}]
            own = {status: each["description"] for status, each in operation["responses"].items() if status >= "400"}
            expected = own | PROBLEMS
            if "parameters" in operation or "requestBody" in operation:
                expected |= PROBLEMS_OF_INPUT
            if "requestBody" in operation:
                expected |= PROBLEMS_OF_CHANGES
            if "{" in path:
                expected |= PROBLEMS_OF_ONE
            for status, words in expected.items():
                operation["responses"][status] = {
                    "description": words,
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
    return described

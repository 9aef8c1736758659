"""The API as a part of the server's application, and its description (OpenAPI)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from workerjobs.settings import ServerSettings
from workerjobs.web.api import cron, events, figures, job_limits, jobs, pools
from workerjobs.web.api.access import Access
from workerjobs.web.api.caching import Caching
from workerjobs.web.api.changes import Changes
from workerjobs.web.api.limits import SizeLimit
from workerjobs.web.api.problems import MEDIA_TYPE, Problem, handle_problems
from workerjobs.web.api.stores import Stores
from workerjobs.web.api.tokens import Tokens
from workerjobs.web.sessions import Sessions

PREFIX = "/api/v1"
DESCRIPTION = """\
Jobs in a Postgres table, run by workers. Every request shows a token, `Authorization: Bearer …`
(`workerjobs token create NAME --scope read|write`), unless a listed proxy has signed its sender in, or the server
listens on a loopback address and has no `WORKERJOBS_SERVER_TOKEN`. A token of scope `read` may look, one of scope
`write` may also change things (`GET /api/v1/me`); what is changed is noted (`GET /api/v1/audit`).

Lists are read page by page: give `next` of a page as `before` (or `after`) of the next one. Durations without a unit in
their name are milliseconds, as in the table. Errors are problem details (RFC 9457). Answers to GET have an `ETag`; sent
back as `If-None-Match`, the answer is 304 while nothing changed. HEAD is accepted wherever GET is, but for events.
"""
PROBLEMS = {
    "401": "No token, or one that is not valid.",
    "403": "The token's scope is not enough, or the page's origin or the host is not accepted.",
    "429": "Too many requests; `Retry-After` says how long to wait.",
    "503": "The database, or a place, is not to be had now; `Retry-After` says how long to wait.",
}
PROBLEMS_OF_INPUT = {"422": "The input has to be corrected; `errors` names each problem."}
PROBLEMS_OF_CHANGES = {"400": "The body can't be read.", "413": "The body is too large."}
PROBLEMS_OF_ONE = {"404": "There is no such thing."}
PROBLEMS_OF_CHANGING_ONE = {"409": "Its state does not allow that."}


def add_api(
    app: FastAPI, settings: ServerSettings, stores: Stores, changes: Changes, tokens: Tokens, sessions: Sessions
) -> None:
    """Put the API into an application."""
    app.state.stores = stores
    app.state.changes = changes
    router = APIRouter(prefix=PREFIX)
    for part in (jobs, cron, pools, job_limits, figures, events):
        router.include_router(part.router)
    router.include_router(pools.last_router)
    app.include_router(router)
    handle_problems(app)
    app.add_middleware(Access, settings=settings, tokens=tokens, sessions=sessions)
    app.add_middleware(SizeLimit, limit_bytes=settings.max_body_bytes)
    app.add_middleware(Caching, prefix=f"{PREFIX}/")

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


def operation_id(route: APIRoute) -> str:
    """Name an operation, as generated clients call their methods.

    >>> async def list_jobs() -> None: ...
    >>> operation_id(APIRoute("/jobs", list_jobs))
    'listJobs'
    """
    return to_camel(route.name)


TAGS = [
    {"name": "jobs", "description": "Submit, look at, cancel and run again."},
    {"name": "cron", "description": "Jobs that run on a schedule."},
    {"name": "pools and types", "description": "Workers and their pools, job types, pauses."},
    {"name": "limits", "description": "How many jobs of a type or concurrency key run at once, and start in a period."},
    {"name": "figures", "description": "Counts, who asks, and who did what."},
    {"name": "events", "description": "Changes as they happen, as server-sent events."},
    {"name": "notifications", "description": "What users are told, and tickets for their browsers."},
]


def _with_problems(described: dict[str, Any]) -> dict[str, Any]:
    """Say of each operation which token it needs, and how it may be refused."""
    components = described.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if path.startswith((PREFIX, "/api/tickets")):
                operation["security"] = [{"token": []}]
            own = {status: each["description"] for status, each in operation["responses"].items() if status >= "400"}
            expected = own | PROBLEMS
            if "parameters" in operation or "requestBody" in operation:
                expected |= PROBLEMS_OF_INPUT
            if "requestBody" in operation:
                expected |= PROBLEMS_OF_CHANGES
            if "{" in path:
                expected |= PROBLEMS_OF_ONE | (PROBLEMS_OF_CHANGING_ONE if method != "get" else {})
            for status, words in expected.items():
                operation["responses"][status] = {
                    "description": words,
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
    return described

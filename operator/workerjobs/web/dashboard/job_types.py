"""Job types, and submitting a job of one."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from workerjobs.errors import InvalidInputError
from workerjobs.ports.api import ApiStore, KnownType
from workerjobs.web.api import jobs, schemas
from workerjobs.web.api.jobs import LEASE
from workerjobs.web.api.once import Once
from workerjobs.web.api.stores import ChangeOfRequest, StoreOfRequest
from workerjobs.web.dashboard.notices import Did
from workerjobs.web.dashboard.overview import type_lines
from workerjobs.web.dashboard.rendering import pages_of

router = APIRouter()

Field = Annotated[str, Form(max_length=2**20)]


@router.get("/types")
async def list_types(request: Request, store: StoreOfRequest) -> Response:
    """List the job types that workers know, or that have jobs of late."""
    known = {each.type: each for each in await store.job_types(LEASE)}
    lines = {each.type: each for each in type_lines(await store.queues(), await store.recent_runs())}
    paused = {each.name: each for each in await store.pauses() if each.kind == "type"}
    return pages_of(request).show(
        request,
        "types.html",
        area="types",
        names=sorted(known.keys() | lines.keys() | paused.keys()),
        known=known,
        lines=lines,
        paused=paused,
    )


@router.get("/submit")
async def ask(
    request: Request, store: StoreOfRequest, job_type: Annotated[str, Query(alias="type", max_length=200)] = ""
) -> Response:
    """Show a form for a job."""
    known = await _known(store, job_type)
    data = "{}" if known is None else json.dumps(example(known.schema), indent=2, ensure_ascii=False)
    pool = known.pools[0] if known is not None else "default"
    return await _form(request, store, {"type": job_type, "data": data, "pool": pool}, [])


@router.post("/submit")
async def submit(
    request: Request,
    change: ChangeOfRequest,
    job_type: Annotated[str, Form(alias="type", max_length=200)] = "",
    data: Field = "{}",
    pool: Field = "",
    tag: Field = "",
    due: Field = "",
    priority: Field = "",
) -> Response:
    """Store a job."""
    given = {"type": job_type, "data": data, "pool": pool, "tag": tag, "due": due, "priority": priority}
    answer = Response()
    try:
        new = await jobs.submit_job(_read(given), change, answer, Once(request, answer))
    except InvalidInputError as error:
        return await _form(request, change.store, given, error.problems)
    return pages_of(request).go(f"/jobs/{new.id}", did=Did.SUBMIT, job=new.id)


def _read(given: dict[str, str]) -> schemas.NewJob:
    """Read a form.

    Raises:
        InvalidInputError: With each problem.
    """
    values: dict[str, object] = {name: text.strip() for name, text in given.items() if text.strip()}
    problems = []
    try:
        values["data"] = json.loads(given["data"].strip() or "{}")
    except (ValueError, RecursionError) as error:
        problems.append(f"data is not JSON: {error}")
    if "priority" in values:
        try:
            values["priority"] = int(given["priority"])
        except ValueError:
            problems.append(f"priority is {given['priority']!r}: give a whole number")
    if "type" not in values:
        problems.append("type is missing: name a job type")
    if problems:
        raise InvalidInputError(problems)
    try:
        return schemas.NewJob.model_validate(values)
    except ValidationError as error:
        raise InvalidInputError(
            [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
        ) from None


async def _form(request: Request, store: ApiStore, given: dict[str, str], problems: list[str]) -> Response:
    known = await _known(store, given["type"])
    return pages_of(request).show(
        request,
        "submit.html",
        422 if problems else 200,
        area="types",
        given={"tag": "", "due": "", "priority": ""} | given,
        problems=problems,
        known=known,
        names=[each.type for each in await store.job_types(LEASE)],
    )


async def _known(store: ApiStore, job_type: str) -> KnownType | None:
    return next(iter(await store.job_types(LEASE, job_type)), None) if job_type else None


def example(schema: object) -> object:
    """Make data to begin with from a schema: the properties that must be there, and those with a default.

    >>> properties = {"to": {"type": "array"}, "copies": {"default": 1}, "note": {"type": "string"}}
    >>> example({"type": "object", "required": ["to"], "properties": properties})
    {'to': [], 'copies': 1}
    """
    if not isinstance(schema, dict):
        return None
    if "default" in schema:
        return schema["default"]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties")
            required = schema.get("required", [])
            return {
                name: example(each)
                for name, each in (properties.items() if isinstance(properties, dict) else ())
                if name in required or (isinstance(each, dict) and "default" in each)
            }
        case "array":
            return []
        case "string":
            return ""
        case "integer" | "number":
            return 0
        case "boolean":
            return False
        case _:
            return None

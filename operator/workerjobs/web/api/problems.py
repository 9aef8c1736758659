"""Errors as problem details (RFC 9457): ``application/problem+json`` with ``title``, ``status``, ``detail``.

Nothing of a request is repeated in them but what WorkerJobs' own sentences name, and no address of the database.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from workerjobs.domain.parsing import unknown_name
from workerjobs.errors import (
    DatabaseRefusedError,
    DatabaseUnavailableError,
    InvalidInputError,
    NotFoundError,
    SchemaError,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "1"}
FAILED = "Something went wrong here: the server's log says what"


class Problem(BaseModel):
    """Why a request was not carried out."""

    type: str = Field("about:blank", description="Always about:blank: the status says what kind of problem it is.")
    title: str = Field(description="The status in words.", examples=["Not Found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What is wrong, for people.", examples=["There is no job 7"])
    errors: list[str] = Field([], description="Each problem of the input by itself, where there may be several.")


class ProblemError(HTTPException):
    """A request that is refused, in words for whoever sent it."""


def problem(
    status: int, detail: str, *, errors: Sequence[str] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """Write a problem."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        body["errors"] = list(errors)
    # In ASCII: a text that is no Unicode, of a request, may be named in it.
    return Response(json.dumps(body), status, headers, MEDIA_TYPE)


def handle_problems(app: FastAPI) -> None:
    """Have an application answer errors as problems."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = _methods(app.openapi()["paths"], request.url.path)
            return problem(405, f"Only {allowed} is accepted here", headers={"Allow": allowed})
        return problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, error: RequestValidationError) -> Response:
        errors = [_sentence(each, app, request) for each in error.errors()]
        return problem(422, "; ".join(errors), errors=errors)

    @app.exception_handler(InvalidInputError)
    async def invalid(_: Request, error: InvalidInputError) -> Response:
        return problem(422, str(error), errors=error.problems)

    @app.exception_handler(NotFoundError)
    async def not_found(_: Request, error: NotFoundError) -> Response:
        return problem(404, str(error))

    @app.exception_handler(DatabaseUnavailableError)
    async def unavailable(_: Request, error: DatabaseUnavailableError) -> Response:
        log.warning("A request could not be answered: %s", error)
        return problem(503, "The database can't be asked now: try again", headers=RETRY_AFTER)

    @app.exception_handler(DatabaseRefusedError)
    @app.exception_handler(SchemaError)
    async def misconfigured(_: Request, error: Exception) -> Response:
        log.error("A request could not be answered: %s", error)
        return problem(503, "The database does not let this server work: its log says why", headers=RETRY_AFTER)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        # The server logs it with its traceback, as it is raised again after this.
        return problem(500, FAILED)


def _methods(paths: Mapping[str, Mapping[str, Any]], path: str) -> str:
    """Name the methods of a path; Starlette (1.10) names those of the first route that fits."""
    return ", ".join(sorted(method.upper() for method in _operations(paths, path)))


def _operations(paths: Mapping[str, Mapping[str, Any]], path: str) -> Mapping[str, Any]:
    """Find what is described of a path, by method; empty where nothing is."""
    # A name in a path may hold slashes; the longest pattern is the one that says most.
    patterns = sorted(paths, key=len, reverse=True)
    return paths.get(path) or next(
        (paths[name] for name in patterns if re.fullmatch(re.sub(r"{\w+}", ".+", name), path)), {}
    )


def _accepted(described: Mapping[str, Any], operation: Mapping[str, Any], where: str, path: Sequence[str]) -> list[str]:
    """Name the fields that are accepted at a place of a body, or the parameters of a query.

    Args:
        described: The description of the API.
        operation: What it says of one of its operations.
        where: ``body``, or where parameters are.
        path: The place in the body.
    """
    if where != "body":
        return [each["name"] for each in operation.get("parameters", ()) if each["in"] == where]
    (content,) = operation["requestBody"]["content"].values()
    found = _alternatives(described, content["schema"])
    for step in path:
        inner = [each.get("items") if step.isdigit() else each.get("properties", {}).get(step) for each in found]
        found = [each for schema in inner if schema is not None for each in _alternatives(described, schema)]
    return [name for schema in found for name in schema.get("properties", {})]


def _alternatives(described: Mapping[str, Any], schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Resolve a schema, and those that it lets choose from."""
    if "$ref" in schema:
        schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return [schema, *(each for one in schema.get("anyOf", ()) for each in _alternatives(described, one))]


def _sentence(error: Mapping[str, Any], app: FastAPI, request: Request) -> str:
    """Say what is wrong with a part of a request, without its value."""
    where, *path = (str(part) for part in error["loc"])
    if error["type"] == "json_invalid":
        return "The body is not JSON"
    if where == "body" and not path:
        return "The body is missing" if error["type"] == "missing" else "The body is no JSON object"
    place = ".".join(path)
    if error["type"] == "extra_forbidden":
        described = app.openapi()
        # Pages of the dashboard are not described.
        operation = _operations(described["paths"], request.url.path).get(request.method.lower())
        accepted = [] if operation is None else _accepted(described, operation, where, path[:-1])
        if not accepted:
            return f"{place} is unknown"
        before = f"{'.'.join(path[:-1])}: " if len(path) > 1 else ""
        return before + unknown_name(path[-1], accepted)
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {message[0].lower()}{message[1:]}"

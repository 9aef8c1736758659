"""Which jobs a URL means, and all of these at once."""

from __future__ import annotations

from dataclasses import replace

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from workerjobs.ports.api import ApiStore
from workerjobs.ports.jobs import JobQuery
from workerjobs.web.api import schemas
from workerjobs.web.dashboard.notices import NAMES

MOST = 1_000
"""Jobs that are changed at once."""
LOOKS = 20
"""Each goes through a hundred thousand rows at most."""


def read_filter(parameters: QueryParams) -> schemas.JobListQuery:
    """Read which jobs are meant.

    Raises:
        RequestValidationError: Something there means nothing.
    """
    given: dict[str, object] = {
        name: value for name, value in parameters.items() if value and name not in {*NAMES, "q", "state"}
    }
    if states := [each for each in parameters.getlist("state") if each]:
        given["state"] = states
    try:
        return schemas.JobListQuery.model_validate(given)
    except ValidationError as error:
        problems = [{**each, "loc": ("query", *each["loc"])} for each in error.errors(include_context=False)]
        raise RequestValidationError(problems) from None


async def find_ids(store: ApiStore, wanted: JobQuery) -> tuple[list[int], bool]:
    """Find jobs, the newest ones, page by page; and whether these are all of them."""
    ids: list[int] = []
    before = wanted.before
    for _ in range(LOOKS):
        page = await store.page(replace(wanted, before=before, limit=MOST - len(ids)))
        ids += [job.id for job in page.jobs]
        before = page.before
        if before is None or len(ids) == MOST:
            break
    return ids, before is None

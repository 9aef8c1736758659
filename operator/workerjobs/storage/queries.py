"""The SQL statements, one per file of ``sql/``, named as the store methods that use them."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def query(name: str) -> bytes:
    """Read ``sql/NAME.sql``; ``{job_columns}`` becomes the columns of `workerjobs.domain.job.Job`.

    Returns:
        The statement as bytes, which psycopg takes without asking for a literal string.
    """
    return _file(name).replace("{job_columns}", _file("job_columns").strip()).encode()


def _file(name: str) -> str:
    return resources.files("workerjobs.storage").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")

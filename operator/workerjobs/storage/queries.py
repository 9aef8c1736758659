"""The SQL statements, one per file of ``sql/``, named as the store methods that use them."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources


@cache
def query(name: str) -> bytes:
    """Read ``sql/NAME.sql``, with the fragments that it names in braces, such as ``{job_columns}``, put in.

    Returns:
        The statement as bytes, which psycopg takes without asking for a literal string.
    """
    return _filled(name).encode()


def _filled(name: str) -> str:
    text = resources.files("workerjobs.storage").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return re.sub(r"{(\w+)}", lambda fragment: _filled(fragment[1]).strip(), text)

"""Fields of log lines: those that the code writes are those that the page lists."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.factories import running_job
from workerjobs import logs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "logs.md"
GIVEN = {
    "job_facts(child.job)",
    "job_facts(job)",
    "job_facts(lines[job_id])",
    "job_facts(running.job)",
    "job.log_facts",
    "facts",
    "self._describe(self._job_id)",
}
"""What records are given: the facts of a job and nothing else."""
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


@contextmanager
def logging_to(stream: io.StringIO) -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("workerjobs")
    before = root.handlers[:], root.level, ours.level
    try:
        logs.configure("info", stream=stream)
        yield
    finally:
        root.handlers[:], root.level, ours.level = before


def fields_on_the_page(text: str) -> set[str]:
    (table,) = re.findall(r"^\| field \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def fields_in_the_code() -> set[str]:
    """What a line can hold: all that the code gives to records, through the real formatter."""
    stream = io.StringIO()
    job = running_job(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    with logging_to(stream):
        try:
            raise LookupError("no such thing")
        except LookupError:
            logging.getLogger("workerjobs.worker").exception("Failed", extra=job.log_facts, stack_info=True)
    (line,) = map(json.loads, stream.getvalue().splitlines())
    return set(line)


def extras() -> set[str]:
    """What is given to log records anywhere in the code."""
    found = set()
    for file in (ROOT / "operator").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                found |= {ast.unparse(each.value) for each in node.keywords if each.arg == "extra"}
    return found


def test_page_and_code_have_the_same_fields() -> None:
    assert extras() == GIVEN
    assert fields_on_the_page(PAGE.read_text()) == fields_in_the_code()


def test_a_field_on_one_side_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text()
    row = "| `attempt` | about a job |"
    assert fields_on_the_page(page.replace(row, f"| `pool` | about a job | its pool |\n{row}")) != fields_in_the_code()
    job_type = type(running_job())
    monkeypatch.setattr(job_type, "log_facts", {"job_id": 1, "pool": "default"})
    assert fields_on_the_page(page) != fields_in_the_code()


def test_a_line_without_a_trace_says_nothing_of_one() -> None:
    assert running_job(traceparent=None).log_facts.keys() == {"job_id", "job_type", "attempt"}
    assert "trace_id" not in running_job(traceparent="not a context").log_facts

"""Tests of the jobs beside this file."""

import pytest
from invoice_jobs import send_invoice

from workerjobs.errors import InvalidDataError
from workerjobs.testing import run_job

LINES = [{"text": "pen", "price": 2.5, "count": 4}, {"text": "ink", "price": 5}]


def test_an_invoice_is_added_up():
    run = run_job(send_invoice, {"to": "Ada", "due": "2030-01-31", "lines": LINES})
    assert run.result == {"to": "Ada", "total": 15.0, "due": "2030-01-31"}
    assert run.progress[-1].message == "ink"
    assert run.messages == ["an invoice of 15.0 EUR to Ada"]


def test_an_invoice_without_lines_is_refused():
    with pytest.raises(InvalidDataError) as raised:
        run_job("sendInvoice", {"to": "Ada", "due": "2030-01-31", "lines": []})
    assert raised.value.problems == ["data.lines is []: give a list of at least 1 item, each an object (Line)"]

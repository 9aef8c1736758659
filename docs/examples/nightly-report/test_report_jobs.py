"""Tests of the jobs beside this file, on a Postgres of their own."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from report_jobs import sales_report

from workerjobs.testing import database, run_job

SCHEMA = Path(__file__).with_name("schema.sql")


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    with database() as url:
        with psycopg.connect(url) as connection:
            connection.execute(SCHEMA.read_bytes())
            connection.execute(
                """
                insert into orders (product, count, price, ordered_at) values
                    ('pen', 4, 2.50, '2026-11-01T00:10:00+01:00'),
                    ('ink', 1, 5.00, '2026-11-01T12:00:00+01:00'),
                    ('pen', 1, 2.50, '2026-11-01T23:50:00+01:00'),
                    ('ink', 9, 5.00, '2026-11-02T00:10:00+01:00')
                """
            )
        yield url


def test_a_report_has_the_orders_of_the_shops_own_day(shop: str) -> None:
    run = run_job(sales_report, {"day": "2026-11-01"}, database_url=shop)
    assert run.result == {
        "day": "2026-11-01",
        "products": 2,
        "revenue": "17.50",
        "best": [
            {"product": "pen", "sold": 5, "revenue": "12.50"},
            {"product": "ink", "sold": 1, "revenue": "5.00"},
        ],
    }


def test_a_report_written_twice_is_the_same(shop: str) -> None:
    first, second = (run_job(sales_report, {"day": "2026-11-02"}, database_url=shop).result for _ in range(2))
    assert first == second
    with psycopg.connect(shop) as connection:
        lines = connection.execute("select count(*) from sales_reports where day = '2026-11-02'").fetchone()
    assert lines == (1,)

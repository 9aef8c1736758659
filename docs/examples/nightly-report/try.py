"""Fills a shop with orders, has the reports of three days written, and shows them. All of it is gone afterwards."""

from datetime import date, timedelta
from pathlib import Path

import psycopg

from workerjobs import WorkerManager
from workerjobs.testing import database

HERE = Path(__file__).parent
ORDERS = """
    insert into orders (product, count, price, ordered_at)
    select (array['pen', 'ink', 'paper', 'lamp'])[1 + n % 4], 1 + n % 3, 1.5 + n % 7, now() - n * interval '3 minutes'
    from generate_series(1, 2000) as n
"""


def main() -> None:
    """Show it."""
    with database() as url:
        with psycopg.connect(url) as connection:
            connection.execute((HERE / "schema.sql").read_bytes())
            connection.execute(ORDERS)
        with WorkerManager(database_url=url, worker_count=2, job_modules=[str(HERE / "report_jobs.py")]) as manager:
            days = [date.today() - timedelta(days=ago) for ago in (1, 2, 3)]
            jobs = [manager.submit_job({"type": "salesReport", "data": {"day": day.isoformat()}}) for day in days]
            for each in jobs:
                finished = manager.wait_for_job(each.id, timeout=60)
                print(f"job {finished.id} {finished.state}: {finished.result}")


if __name__ == "__main__":
    main()

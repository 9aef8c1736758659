"""A queue to look at: rows as of a shop, for pictures of the dashboard, its tests, and measurements."""

from __future__ import annotations

from pathlib import Path

import psycopg

FOLDER = Path(__file__).parent


def fill(url: str, finished: int) -> None:
    """Put a shop's jobs into a database, with so many that are finished."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((FOLDER / "dashboard_rows.sql").read_bytes(), {"finished": finished})
        connection.execute((FOLDER / "dashboard_others.sql").read_bytes())
        connection.execute("vacuum analyze")

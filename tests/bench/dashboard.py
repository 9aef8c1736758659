"""How long the dashboard's pages take at the server with a large table: ``python -m tests.bench.dashboard [ROWS]``."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.support.dashboard import fill
from tests.support.web import server
from workerjobs.storage.embedded import EmbeddedPostgres
from workerjobs.storage.migrate import migrate_url

ROWS = 1_000_000
TIMES = 15
PAGES = (
    "/",
    "/?window=24h",
    "/jobs",
    "/jobs?state=succeeded",
    "/jobs?state=pending",
    "/jobs?state=failed",
    "/jobs?state=failed&type=resizeImage",
    "/jobs?type=nothingLikeThis",
    "/jobs?tag=gallery-3",
    "/jobs?before=500000",
    "/jobs?userId=217",
    "/jobs/500000",
    "/cron",
    "/cron?span=30d",
    "/pools",
    "/types",
    "/chains",
    "/audit",
)


async def main(rows: int) -> None:
    """Measure, and print a table."""
    with EmbeddedPostgres.ephemeral() as postgres, tempfile.TemporaryDirectory() as scratch:
        migrate_url(postgres.url)
        fill(postgres.url, rows)
        async with server(postgres.url, Path(scratch), WORKERJOBS_SERVER_TOKEN="", WORKERJOBS_API_RATE="0") as web:
            print("| page | median | slowest |\n|---|---|---|")
            for path in PAGES:
                times = []
                for _ in range(TIMES):
                    began = time.perf_counter()
                    async with web.http.get(f"{web.url}{path}", headers={"Accept": "text/html"}) as answer:
                        text = await answer.text()
                        assert answer.status == 200, (path, text)
                    times.append((time.perf_counter() - began) * 1000)
                print(f"| `{path}` | {statistics.median(times):.0f} ms | {max(times):.0f} ms |")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS))

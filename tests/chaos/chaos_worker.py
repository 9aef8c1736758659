"""A worker as `workerjobs worker` runs it, with leases so short that losses show within a minute."""

from __future__ import annotations

import argparse
import asyncio
import os
from datetime import timedelta
from pathlib import Path

from workerjobs import app, logs
from workerjobs.cli.roles import stop_on_signals
from workerjobs.worker.configuration import Configuration
from workerjobs.worker.options import SupervisorOptions
from workerjobs.worker.supervisor import Supervisor

LEASE_SECONDS = 3.0


async def run(children: int) -> None:
    """Work until SIGTERM."""
    url = os.environ["DATABASE_URL"]
    store = await app.wait_for_store(url, "chaos worker", 120)
    supervisor = Supervisor(
        store,
        app.listener(url, url),
        Configuration((str(Path(__file__).with_name("chaos_jobs.py")),), "info", url, app.STORAGE_FOR_JOBS),
        SupervisorOptions(
            children=children,
            lease=timedelta(seconds=LEASE_SECONDS),
            renew_every=timedelta(seconds=LEASE_SECONDS / 3),
            rescue_every=timedelta(seconds=LEASE_SECONDS / 6),
        ),
    )
    stop_on_signals(supervisor.stop)
    try:
        await supervisor.run()
    finally:
        await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--children", type=int, required=True)
    logs.configure("warn")
    asyncio.run(run(parser.parse_args().children))

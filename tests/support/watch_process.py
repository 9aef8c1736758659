"""A process that watches a chain until it is killed: ``python -m tests.support.watch_process DATABASE CHAIN [late]``.

With ``late`` it knows `late_copy` as well, which others do not.
"""

from __future__ import annotations

import asyncio
import sys

from tests.support.chains import late_copy, make_chain, watching
from workerjobs.errors import WorkerJobsError
from workerjobs.jobs.token_filters import token_filters


async def main(database_url: str, chain_url: str, *more: str) -> None:
    filters = [*token_filters(None), *([late_copy()] if "late" in more else [])]
    async with watching(database_url, make_chain(chain_url, timeout_seconds=2.0), filters) as watch:
        print("watching", flush=True)
        while True:
            try:
                if await watch.step():
                    continue
            except WorkerJobsError as error:
                print(error, file=sys.stderr, flush=True)
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Take the pictures of the dashboard in docs/images: ``python -m tests.support.screenshots [FOLDER]``."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.support.browser import Page, open_page
from tests.support.dashboard import fill
from tests.support.web import server
from workerjobs.storage.embedded import EmbeddedPostgres
from workerjobs.storage.migrate import migrate_url

IMAGES = Path(__file__).parents[2] / "docs" / "images"
FINISHED = 12_000
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}


def take(
    page: Page, url: str, path: str, name: str, folder: Path, *, size: dict[str, int] = WIDE, scheme: str = "light"
) -> None:
    """Take a picture of a whole page."""
    page.act(f"await page.setViewportSize({json.dumps(size)}); await page.emulateMedia({{ colorScheme: '{scheme}' }})")
    seen = "await page.waitForSelector('#live-state:not([hidden])', { timeout: 3000 }).catch(() => {})"
    page.act(f"await page.goto({json.dumps(url + path)}); {seen}")
    page.act(f"await page.screenshot({{ path: {json.dumps(str(folder / f'dashboard-{name}.png'))}, fullPage: true }})")


async def main(folder: Path) -> None:
    """Take all."""
    with EmbeddedPostgres.ephemeral() as postgres, tempfile.TemporaryDirectory() as scratch:
        migrate_url(postgres.url)
        fill(postgres.url, FINISHED)
        async with server(postgres.url, Path(scratch), WORKERJOBS_SERVER_TOKEN="") as web:
            await asyncio.to_thread(_take_all, web.url, folder)


def first(page: Page, query: str, condition: str) -> int:
    """Find the newest job of a list for which something holds."""
    listed = f"fetch('/api/v1/jobs?{query}').then(answer => answer.json())"
    found: int = page.ask(f"{listed}.then(list => list.jobs.find(job => {condition}).id)")
    return found


def _take_all(url: str, folder: Path) -> None:
    with open_page(url) as page:
        tried = first(page, "type=chargeCard&state=failed", "job.attempt === 3")
        running = first(page, "type=exportOrders&state=running", "job.progress.current > 9000")
        paused = json.dumps({"key": "reminders", "reason": "Wording is being checked"})
        sent = f"{{ method: 'POST', headers: {{ 'Content-Type': 'application/json' }}, body: {json.dumps(paused)} }}"
        assert page.ask(f"fetch('/api/v1/cron/pause', {sent}).then(answer => answer.status)") == 200
        for name, path in (
            ("overview", "/"),
            ("jobs", "/jobs?limit=20"),
            ("job", f"/jobs/{tried}"),
            ("running", f"/jobs/{running}"),
            ("cron", "/cron"),
            ("pools", "/pools"),
            ("chains", "/chains"),
        ):
            take(page, url, path, name, folder)
        take(page, url, "/", "overview-dark", folder, scheme="dark")
        take(page, url, "/", "overview-narrow", folder, size=NARROW)
        take(page, url, f"/jobs/{running}", "cancel", folder)
        page.act("await page.click('a[data-dialog]'); await page.waitForSelector('dialog[open]')")
        page.act(f"await page.screenshot({{ path: {json.dumps(str(folder / 'dashboard-cancel.png'))} }})")


if __name__ == "__main__":
    wanted = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    wanted.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(wanted))

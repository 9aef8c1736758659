"""The dashboard in a real browser: by keyboard, in both colours, wide and narrow, as a screen reader has it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg

from tests.support.browser import Page, open_page
from tests.support.dashboard import fill
from tests.support.loop import in_loop
from tests.support.table import sql
from tests.support.web import TOKEN, served

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
CHECK = f"""
await page.evaluate(require("fs").readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"));
const found = await page.evaluate("axe.run({{runOnly: {json.dumps(RULES).replace('"', "'")}}})");
return found.violations.map(each => [each.id, each.help, each.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])
""".replace("\n", " ")
OVERFLOW = (
    "[document.documentElement.scrollWidth - document.documentElement.clientWidth, "
    "[...document.querySelectorAll('main *')].filter(each => !each.closest('.scroll, .tabs, svg, .hidden, pre')"
    " && each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 120))]"
)


def go(page: Page, url: str) -> None:
    page.act(f"await page.goto({json.dumps(url)})")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.act(f"await page.keyboard.press({json.dumps(key)})")


def write(page: Page, text: str) -> None:
    page.act(f"await page.keyboard.type({json.dumps(text)})")


def wait(page: Page, selector: str, state: str = "visible") -> None:
    page.act(f"await page.waitForSelector({json.dumps(selector)}, {{ state: '{state}', timeout: 20000 }})")


def focused(page: Page) -> Any:
    return page.ask("document.activeElement.id || document.activeElement.textContent.trim()")


def follow(page: Page, selector: str) -> None:
    """Go on by keyboard from an element, to the page that this leads to."""
    leaving = "page.waitForNavigation({ timeout: 20000 })"
    page.act(f"await Promise.all([{leaving}, page.press({json.dumps(selector)}, 'Enter')])")


def look_at_all(page: Page, base: str, job: int) -> None:
    """Check each page for overflow, wide and narrow, and, light or dark in turns, for what axe finds."""
    paths = (
        "/",
        "/jobs",
        f"/jobs/{job}",
        f"/jobs/{job}/cancel",
        "/cron",
        "/pools",
        "/types",
        "/submit",
        "/chains",
        "/audit",
    )
    problems = []
    for index, path in enumerate(paths):
        go(page, f"{base}{path}")
        for scheme, width in (("light", 1280), ("dark", 400)):
            page.act(
                f"await page.setViewportSize({{ width: {width}, height: 900 }}); "
                f"await page.emulateMedia({{ colorScheme: '{scheme}' }})"
            )
            found = [each for each in page.ask(OVERFLOW) if each]
            if scheme == ("light", "dark")[index % 2]:
                found += page.act(CHECK)
            problems += [(path, scheme, width, each) for each in found]
    assert problems == []
    grounds = {
        scheme: page.act(
            f"await page.emulateMedia({{ colorScheme: '{scheme}' }}); "
            "return page.evaluate('getComputedStyle(document.documentElement).backgroundColor')"
        )
        for scheme in ("dark", "light")
    }
    assert grounds["dark"] != grounds["light"]
    page.act("await page.setViewportSize({ width: 1280, height: 900 })")


def work(page: Page, url: str, base: str) -> None:
    """Do what people do, by keyboard."""
    ((job,),) = sql(url, "select workerjobs.submit('report', '{}')")

    # A token for a session that scripts can't read.
    wait(page, "#token")
    assert focused(page) == "token"
    assert page.act(CHECK) == []
    write(page, TOKEN)
    page.act("await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')])")
    wait(page, "h1:has-text('Overview')")
    assert page.ask("document.cookie") == ""
    press(page, "Tab")
    assert focused(page) == "Skip to content"

    look_at_all(page, base, job)

    # A job by its number.
    press(page, "/")
    assert focused(page) == "find"
    write(page, str(job))
    page.act("await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')])")
    assert page.ask("location.pathname") == f"/ops/jobs/{job}"

    # Cancelling asks in a dialogue, which Escape leaves; afterwards it can be run after all.
    page.act("await page.press('a[data-dialog]:has-text(\"Cancel\")', 'Enter')")
    wait(page, "dialog[open]")
    assert focused(page) == "reason"
    assert page.act(CHECK) == []
    press(page, "Escape")
    wait(page, "dialog[open]", "hidden")
    assert focused(page) == "Cancel"
    press(page, "Enter")
    wait(page, "dialog[open]")
    write(page, "not needed")
    page.act("await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')])")
    wait(page, "#notice >> text=The job is cancelled")
    wait(page, "pre:has-text('not needed')")
    assert page.ask("location.search") == ""
    follow(page, "#notice button")
    wait(page, "#notice >> text=This job runs the earlier one again")

    # What others do shows by itself, and keeps what has the focus.
    new = int(page.ask("location.pathname").rsplit("/", 1)[1])
    wait(page, "#live-state >> text=Live")
    page.act("await page.focus('a[data-dialog]')")
    with psycopg.connect(url) as connection:
        connection.execute(
            'update "workerJobs" set started = now(), "leaseOwner" = %s, "fencingToken" = 77, '
            "\"leaseDeadline\" = now() + interval '1 hour', progress = %s where id = %s",
            ["somebody", '{"current": 3, "total": 4, "message": "three of four"}', new],
        )
    wait(page, ".big-progress >> text=three of four")
    assert focused(page) == "Cancel"
    go(page, f"{base}/jobs?type=report")
    wait(page, "#live-state >> text=Live")
    ((another,),) = sql(url, "select workerjobs.submit('report', '{}')")
    wait(page, f"#job-{another}")

    # Some at once.
    go(page, f"{base}/jobs?type=report&state=pending")
    page.act("await page.focus('#pick-all')")
    press(page, "Space")
    assert page.ask("document.getElementById('picked').textContent") == "1 selected:"
    page.act("await page.press('.selected button[value=cancel]', 'Enter')")
    wait(page, "dialog[open]")
    page.act("await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')])")
    wait(page, "#notice >> text=1 cancelled, 0 asked to stop")

    # A pause, and its end.
    go(page, f"{base}/pools")
    page.act("await page.press('a[data-dialog]:has-text(\"Pause default\")', 'Enter')")
    wait(page, "dialog[open]")
    write(page, "new disks")
    page.act("await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')])")
    wait(page, "text=new disks")
    follow(page, "#notice button")
    wait(page, "#notice >> text=started again")

    # A new job, after a mistake.
    go(page, f"{base}/submit?type=resizeImage")
    assert json.loads(page.ask("document.getElementById('data').value")) == {"image": "", "widths": [320]}
    page.act("await page.fill('#data', '{')")
    follow(page, "#priority")
    wait(page, ".problem >> text=data is not JSON")
    page.act("""await page.fill('#data', '{"image": "a.jpg"}')""")
    follow(page, "#priority")
    wait(page, "#notice >> text=The job is stored")

    # Colours of one's own stay.
    page.act("await page.press('#theme', 'Enter'); await page.press('#theme', 'Enter')")
    go(page, f"{base}/audit")
    assert page.ask("getComputedStyle(document.documentElement).colorScheme") == "dark"
    wait(page, "text=not needed")
    follow(page, "text=Log out")
    wait(page, "#token")
    assert page.said.count("Error") + page.said.count("Content Security Policy") == 0, page.said


@in_loop
async def test_people_work_with_it_by_keyboard(database_url: str, tmp_path: Path) -> None:
    fill(database_url, 300)
    async with served(database_url, WORKERJOBS_PATH_PREFIX="/ops") as web:
        with open_page(f"{web.url}/ops/") as page:
            await asyncio.to_thread(work, page, database_url, f"{web.url}/ops")

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

OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
CHECK = f"""
await page.evaluate(require("fs").readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"));
const found = await page.evaluate({json.dumps(f"axe.run({json.dumps(OPTIONS)})")});
return found.violations.map(each => [each.id, each.help, each.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])
""".replace("\n", " ")
OVERFLOW = (
    "[document.documentElement.scrollWidth - document.documentElement.clientWidth, "
    "[...document.querySelectorAll('main *')].filter(each => each.checkVisibility()"
    " && !each.closest('.scroll, .tabs, svg, .hidden, pre')"
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


def check(page: Page, scheme: str = "light", width: int = 1280) -> None:
    """Check a page for overflow, wide and light as well as narrow and dark, and once for what axe finds."""
    name = page.ask("location.pathname")
    problems = []
    for colours, window in (("dark", 400), ("light", 1280)):
        page.act(
            f"await page.setViewportSize({{ width: {window}, height: 900 }}); "
            f"await page.emulateMedia({{ colorScheme: '{colours}' }})"
        )
        found = [each for each in page.ask(OVERFLOW) if each]
        if (colours, window) == (scheme, width):
            found += page.act(CHECK)
        problems += [(name, colours, window, each) for each in found]
    assert problems == []


def check_narrow(page: Page) -> None:
    """`check`, with axe in the narrow and dark window."""
    check(page, "dark", 400)


def enter(page: Page) -> None:
    """Press Enter, and wait for the page that this leads to."""
    page.act("await Promise.all([page.waitForNavigation({ timeout: 20000 }), page.keyboard.press('Enter')])")


def ask(page: Page, words: str) -> None:
    """Open the dialogue of a link with some words."""
    page.act(f"await page.press({json.dumps(f'a[data-dialog]:has-text({json.dumps(words)})')}, 'Enter')")
    wait(page, "dialog[open]")


def change_row(url: str, statement: str, *values: object) -> None:
    """Change something as a worker does."""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode(), values)


def work(page: Page, url: str, base: str) -> None:
    """Do what people do, by keyboard; each page is checked where it is come by."""
    ((job,),) = sql(url, "select workerjobs.submit('report', '{}')")

    # A token for a session that scripts can't read.
    wait(page, "#token")
    assert focused(page) == "token"
    check(page)
    page.act("await page.focus('#token')")
    write(page, TOKEN)
    enter(page)
    wait(page, "h1:has-text('Overview')")
    assert page.ask("document.cookie") == ""
    press(page, "Tab")
    assert focused(page) == "Skip to content"
    check_narrow(page)

    # A job by its number.
    press(page, "/")
    assert focused(page) == "find"
    write(page, str(job))
    enter(page)
    assert page.ask("location.pathname") == f"/ops/jobs/{job}"

    # Cancelling asks in a dialogue, which Escape leaves; afterwards it can be run after all.
    ask(page, "Cancel")
    assert focused(page) == "reason"
    check_narrow(page)
    press(page, "Escape")
    wait(page, "dialog[open]", "hidden")
    assert focused(page) == "do-cancel"
    press(page, "Enter")
    wait(page, "dialog[open]")
    write(page, "not needed")
    enter(page)
    wait(page, "#notice >> text=The job is cancelled")
    wait(page, "pre:has-text('not needed')")
    assert page.ask("location.search") == ""
    follow(page, "#notice button")
    wait(page, "#notice >> text=This job runs the earlier one again")
    new = int(page.ask("location.pathname").rsplit("/", 1)[1])

    # A job that waits can be changed.
    ask(page, "Change")
    page.act("await page.fill('#priority', '7')")
    follow(page, "#priority")
    wait(page, "#notice >> text=The job is changed")
    wait(page, ".fields div:has-text('priority'):has-text('7')")

    # What others do shows by itself, and keeps what has the focus; so do lines that the job logs.
    wait(page, "#live-state >> text=Live")
    page.act("await page.focus('#do-cancel')")
    change_row(
        url,
        'update "workerJobs" set started = now(), "leaseOwner" = %s, "fencingToken" = 77, '
        "\"leaseDeadline\" = now() + interval '1 hour', progress = %s where id = %s",
        "somebody",
        '{"current": 3, "total": 4, "message": "three of four"}',
        new,
    )
    for line in ("the first line", "a second line"):
        change_row(
            url,
            'insert into "workerJobLogs" ("jobId", at, level, message) values (%s, now(), %s, %s)',
            *(new, "warn", line),
        )
        wait(page, f".log .warn >> text={line}")
    wait(page, ".big-progress >> text=three of four")
    assert page.ask("document.querySelectorAll('.log .warn').length") == 2
    assert focused(page) == "do-cancel"
    check(page)

    # One that is finished can be deleted, for good.
    change_row(
        url,
        'update "workerJobs" set finished = now(), success = true, "leaseOwner" = null, "leaseDeadline" = null, '
        '"fencingToken" = null where id = %s',
        new,
    )
    ask(page, "Delete")
    enter(page)
    wait(page, f"#notice >> text=Job {new} is deleted")

    # A list is up to date; some of it is picked, or all that a filter finds.
    go(page, f"{base}/jobs?type=report&state=pending")
    wait(page, "#live-state >> text=Live")
    ((another,),) = sql(url, "select workerjobs.submit('report', '{}')")
    wait(page, f"#job-{another}")
    check_narrow(page)
    ask(page, "Cancel all pending like these")
    wait(page, "dialog >> text=Cancel 1 job?")
    press(page, "Escape")
    page.act("await page.focus('#pick-all')")
    press(page, "Space")
    assert page.ask("document.getElementById('picked').textContent") == "1 selected:"
    page.act("await page.press('.selected button[value=cancel]', 'Enter')")
    wait(page, "dialog[open]")
    enter(page)
    wait(page, "#notice >> text=1 cancelled, 0 asked to stop")

    # A cron job is held back, goes on, and runs now.
    go(page, f"{base}/cron")
    check(page)
    ask(page, "Pause sync-stock")
    write(page, "stock taking")
    enter(page)
    wait(page, "tr:has-text('sync-stock') >> text=stock taking")
    follow(page, "#notice button")
    wait(page, "#notice >> text=goes on with its next tick")
    ask(page, "Run sync-stock now")
    enter(page)
    wait(page, "#notice >> text=The cron job runs now")

    # A pause of a pool.
    go(page, f"{base}/pools")
    check_narrow(page)
    ask(page, "Pause default")
    write(page, "new disks")
    enter(page)
    wait(page, "text=new disks")

    # A new job, after a mistake.
    go(page, f"{base}/submit?type=resizeImage")
    assert json.loads(page.ask("document.getElementById('data').value")) == {"image": "", "widths": [320]}
    page.act("await page.fill('#data', '{')")
    follow(page, "#priority")
    wait(page, ".problem >> text=data is not JSON")
    check_narrow(page)
    page.act("""await page.fill('#data', '{"image": "a.jpg"}')""")
    follow(page, "#priority")
    wait(page, "#notice >> text=The job is stored")

    # What is left to look at; colours of one's own stay.
    go(page, f"{base}/types")
    check(page)
    go(page, f"{base}/chains")
    check_narrow(page)
    page.act("await page.press('#theme', 'Enter'); await page.press('#theme', 'Enter')")
    go(page, f"{base}/nothing")
    check(page)
    go(page, f"{base}/audit")
    assert page.ask("getComputedStyle(document.documentElement).colorScheme") == "dark"
    wait(page, "text=not needed")
    check_narrow(page)
    follow(page, "text=Log out")
    wait(page, "#token")
    said = [line for line in page.said.splitlines() if "status of 404" not in line]
    assert not [line for line in said if "Error" in line or "Content Security Policy" in line], said


@in_loop
async def test_people_work_with_it_by_keyboard(database_url: str, tmp_path: Path) -> None:
    fill(database_url, 300)
    async with served(database_url, WORKERJOBS_PATH_PREFIX="/ops") as web:
        with open_page(f"{web.url}/ops/") as page:
            await asyncio.to_thread(work, page, database_url, f"{web.url}/ops")

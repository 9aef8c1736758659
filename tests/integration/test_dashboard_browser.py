"""The dashboard in a real browser: by keyboard, in both colours, wide and narrow, as a screen reader has it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests.support.browser import FOLDER, Page, open_page
from tests.support.dashboard import fill
from tests.support.loop import in_loop
from tests.support.table import sql
from tests.support.web import TOKEN, Server, served, server
from workerjobs.web.dashboard.application import ROUTERS
from workerjobs.web.dashboard.notices import Did

PREFIX = "/ops"
MILLISECONDS = 60_000
WIDTHS = (400, 1280)
COLOURS = ("dark", "light")
OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}
AXE = f"""
await page.evaluate(require("fs").readFileSync(require.resolve("axe-core/axe.min.js"), "utf8"));
const found = await page.evaluate({json.dumps(f"axe.run({json.dumps(OPTIONS)})")});
return found.violations.map(each => [each.id, each.help, each.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])
""".replace("\n", " ")
LAYOUT = f"return page.evaluate({json.dumps((FOLDER / 'layout.js').read_text())})"
NOTE = f"""
await page.context().addInitScript({{ path: {json.dumps(str(FOLDER / "controls.js"))} }});
page.asked = [];
page.on("request", (request) => page.asked.push([request.method(), request.url()]));
await page.reload()
""".replace("\n", " ")


def go(page: Page, path: str) -> None:
    page.act(f"await page.goto(new URL({json.dumps(PREFIX + path)}, page.url()).href)")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.act(f"await page.keyboard.press({json.dumps(key)})")


def write(page: Page, text: str) -> None:
    page.act(f"await page.keyboard.insertText({json.dumps(text)})")


def wait(page: Page, selector: str, state: str = "visible") -> None:
    page.act(f"await page.waitForSelector({json.dumps(selector)}, {{ state: '{state}', timeout: {MILLISECONDS} }})")


def focused(page: Page) -> Any:
    return page.ask("document.activeElement.id || document.activeElement.textContent.trim()")


def leave_by(page: Page, doing: str) -> None:
    """Do something, and wait for the page that this leads to."""
    page.act(f"await Promise.all([page.waitForNavigation({{ timeout: {MILLISECONDS} }}), {doing}])")


def follow(page: Page, selector: str) -> None:
    """Go on by keyboard from an element, to the page that this leads to."""
    leave_by(page, f"page.press({json.dumps(selector)}, 'Enter')")


def enter(page: Page) -> None:
    """Press Enter where the focus is, and wait for the page that this leads to."""
    leave_by(page, "page.keyboard.press('Enter')")


def use(page: Page, selector: str) -> None:
    """Press Enter on an element that stays on its page."""
    page.act(f"await page.press({json.dumps(selector)}, 'Enter')")


def ask(page: Page, words: str) -> None:
    """Open the dialogue of a link with some words."""
    use(page, f"a[data-dialog]:has-text({json.dumps(words)})")
    wait(page, "dialog[open]")


def told(page: Page, words: str) -> None:
    """Wait for what a page says of what was just done."""
    wait(page, f"#notice >> text={words}")


def job_of(page: Page) -> int:
    """The job whose page it is."""
    return int(page.ask("location.pathname").rsplit("/", 1)[1])


def check(page: Page, axe_at: tuple[int, str] | None = (1280, "light")) -> None:
    """Check how a page lies in narrow and wide windows, in both colours; in one of these also what axe finds."""
    problems = []
    for width in WIDTHS:
        page.act(f"await page.setViewportSize({{ width: {width}, height: 900 }})")
        for colours in COLOURS:
            found = page.act(f"await page.emulateMedia({{ colorScheme: '{colours}' }}); {LAYOUT}")
            if (width, colours) == axe_at:
                found += page.act(AXE)
            problems += [f"{width} px, {colours}: {each}" for each in found]
    assert not problems, "\n".join([page.ask("location.href"), *problems])


def check_narrow(page: Page) -> None:
    """`check`, with axe in a narrow and dark window."""
    check(page, (400, "dark"))


def change_row(url: str, statement: str, *values: object) -> None:
    """Change something as a worker does."""
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode(), values)


def log_lines(url: str, job: int, first: int, last: int) -> None:
    """Store lines of a job, as its worker does."""
    change_row(
        url,
        'insert into "workerJobLogs" ("jobId", at, level, message) '
        "select %s, now(), 'warn', 'line ' || n from generate_series(%s::int, %s) as n",
        *(job, first, last),
    )


def log_in(page: Page) -> None:
    """Trade a token for a session."""
    page.act("await page.focus('#token')")
    write(page, TOKEN)
    enter(page)
    wait(page, "h1:has-text('Overview')")


def come_in(page: Page) -> None:
    """Log in, to a session that scripts can't read."""
    wait(page, "#token")
    assert focused(page) == "token"
    check(page)
    log_in(page)
    assert page.ask("document.cookie") == ""
    press(page, "Tab")
    assert focused(page) == "Skip to content"
    follow(page, ".segments >> text=24h")
    check_narrow(page)


def cancel_and_change(page: Page, url: str) -> int:
    """Cancel a job, which asks first, and run it after all; change what waits. Returns the new job."""
    ((job,),) = sql(url, "select workerjobs.submit('report', '{}')")
    press(page, "/")
    assert focused(page) == "find"
    write(page, str(job))
    enter(page)
    assert job_of(page) == job

    ask(page, "Cancel")
    assert focused(page) == "reason"
    check_narrow(page)
    press(page, "Escape")
    wait(page, "dialog[open]", "hidden")
    assert focused(page) == "do-cancel"
    ask(page, "Cancel")
    use(page, "dialog [data-close]")
    wait(page, "dialog[open]", "hidden")
    ask(page, "Cancel")
    write(page, "not needed")
    enter(page)
    told(page, "The job is cancelled")
    wait(page, "pre:has-text('not needed')")
    assert page.ask("location.search") == ""
    follow(page, "#notice button")
    told(page, "This job runs the earlier one again")
    new = job_of(page)

    ask(page, "Change")
    check(page, None)
    page.act("await page.fill('#priority', '7')")
    follow(page, "#priority")
    told(page, "The job is changed")
    wait(page, ".fields div:has-text('priority'):has-text('7')")
    return new


def see_it_run(page: Page, url: str, job: int) -> None:
    """What others do shows by itself, and keeps what has the focus; so do lines that the job logs, each once."""
    log_lines(url, job, 1, 410)
    go(page, f"/jobs/{job}")
    wait(page, "#live-state >> text=Live")
    lines = "[...document.querySelectorAll('.log .text')].map(each => Number(each.textContent.slice(5)))"
    assert page.ask(lines) == [*range(211, 411)]
    assert page.ask("document.querySelector('.log').scrollTop") > 1000
    use(page, "#earlier a")
    wait(page, ".log >> text='line 11'")
    use(page, "#earlier a")
    wait(page, ".log >> text='line 1'")
    assert page.ask("document.getElementById('earlier')") is None
    page.act("await page.focus('#do-cancel')")
    change_row(
        url,
        'update "workerJobs" set started = now(), "leaseOwner" = %s, "fencingToken" = 77, '
        "\"leaseDeadline\" = now() + interval '1 hour', progress = %s where id = %s",
        *("somebody", '{"current": 3, "total": 4, "message": "three of four"}', job),
    )
    log_lines(url, job, 411, 620)
    wait(page, ".big-progress >> text=three of four")
    wait(page, ".log >> text='line 620'")
    assert focused(page) == "do-cancel"
    change_row(
        url,
        # Its worker may be late with its last lines.
        'update "workerJobs" set finished = now() + interval \'1 minute\', success = true, "leaseOwner" = null, '
        '"leaseDeadline" = null, "fencingToken" = null where id = %s',
        job,
    )
    wait(page, "#do-rerun")
    log_lines(url, job, 621, 621)
    wait(page, ".log >> text='line 621'")
    assert page.ask(lines) == [*range(1, 622)]
    page.act("await page.context().grantPermissions(['clipboard-read'])")
    use(page, "[data-copy=data-json]")
    wait(page, "[data-copy=data-json] >> text=Copied")
    assert page.ask("navigator.clipboard.readText()") == "{}"


def act_on_one(page: Page, url: str, job: int) -> None:
    """A finished job is run again, and that undone; one that runs is told to stop; what is finished can be deleted."""
    ask(page, "Run again")
    enter(page)
    told(page, "This job runs the earlier one again")
    follow(page, "#notice button")
    told(page, "The job is cancelled")
    ask(page, "Retry")
    enter(page)
    told(page, "This job runs the earlier one again")
    ((running,),) = sql(url, "select id from \"workerJobs\" where progress ->> 'message' = 'Orders of October'")
    go(page, f"/jobs/{running}")
    use(page, "summary:has-text('All that its worker writes')")
    check(page)
    ask(page, "Cancel")
    enter(page)
    told(page, "The job is asked to stop")
    wait(page, "h1 >> text=stopping")
    ((tried,),) = sql(url, 'select id from "workerJobs" where attempt = 3')
    go(page, f"/jobs/{tried}")
    check_narrow(page)
    go(page, f"/jobs/{job}")
    ask(page, "Delete")
    enter(page)
    told(page, f"Job {job} is deleted")


def act_on_some(page: Page, url: str) -> None:
    """A list is up to date; some of it is picked, or all that a filter finds."""
    sql(url, "select workerjobs.submit('report', '{}')")
    go(page, "/jobs?type=report&state=pending")
    wait(page, "#live-state >> text=Live")
    ((another,),) = sql(url, "select workerjobs.submit('report', '{}')")
    wait(page, f"#job-{another}")
    check_narrow(page)
    page.act("await page.focus('#pick-all')")
    press(page, "Space")
    assert page.ask("document.getElementById('picked').textContent") == "2 selected:"
    use(page, ".selected button[value=cancel]")
    wait(page, "dialog[open]")
    enter(page)
    told(page, "2 cancelled, 0 asked to stop")
    go(page, "/jobs?type=resizeImage&pool=media&state=pending")
    ask(page, "Cancel all pending like these")
    wait(page, "dialog >> text=Cancel 46 jobs?")
    check(page, None)
    enter(page)
    told(page, "46 cancelled, 0 asked to stop")

    follow(page, ".tabs >> text=Failed")
    use(page, "summary:has-text('More')")
    page.act("await page.fill('input[name=type]', 'chargeCard')")
    page.act("await page.fill('input[name=userId]', '217')")
    follow(page, ".filters button")
    assert page.ask("document.querySelectorAll('[name=ids]').length") == 1
    check(page)
    follow(page, ".chips a:has-text('User id')")
    assert page.ask("location.search") == "?state=failed&type=chargeCard"
    page.act("await page.press('[name=ids]', 'Space')")
    use(page, ".selected button[value=retry]")
    wait(page, "dialog[open]")
    enter(page)
    told(page, "One job runs again")
    go(page, "/jobs?state=failed&type=syncStock&tag=nothing")
    check(page, None)
    follow(page, ".chips >> text=Remove all")
    assert page.ask("location.search") == "?state=failed"
    ask(page, "Retry all failed")
    press(page, "Escape")
    go(page, "/jobs")
    check(page, None)
    follow(page, "text=Older")
    follow(page, "text=Newest")


def hold_back(page: Page) -> None:
    """Cron jobs, pools and types are paused, and go on; a cron job runs now, or ends."""
    go(page, "/cron")
    check(page)
    follow(page, ".segments >> text=7d")
    ask(page, "Pause sync-stock")
    write(page, "stock taking")
    enter(page)
    wait(page, "tr:has-text('sync-stock') >> text=stock taking")
    check(page, None)
    follow(page, "#notice button")
    told(page, "goes on with its next tick")
    follow(page, "#notice button")
    told(page, "starts no more runs")
    ask(page, "Resume sync-stock")
    enter(page)
    told(page, "goes on with its next tick")
    ask(page, "Run sync-stock now")
    enter(page)
    told(page, "The cron job runs now")
    follow(page, "#notice button")
    told(page, "The job is cancelled")
    go(page, "/cron")
    ask(page, "End sync-stock")
    enter(page)
    told(page, "The job is cancelled")

    for path, name, words in (("/pools", "default", "new disks"), ("/types", "resizeImage", "a bad picture")):
        go(page, path)
        use(page, "summary")
        check_narrow(page)
        ask(page, f"Pause {name}")
        write(page, words)
        enter(page)
        wait(page, f"main >> text={words}")
        ask(page, f"Resume {name}")
        enter(page)
        told(page, "are started again")


def submit(page: Page) -> None:
    """Submit a job, after a mistake; and undo that."""
    follow(page, "a:has-text('Submit resizeImage')")
    assert json.loads(page.ask("document.getElementById('data').value")) == {"image": "", "widths": [320]}
    use(page, "summary")
    page.act("await page.fill('#data', '{')")
    follow(page, "#priority")
    wait(page, ".problem >> text=data is not JSON")
    check_narrow(page)
    page.act("""await page.fill('#data', '{"image": "a.jpg"}')""")
    follow(page, "#priority")
    told(page, "The job is stored")
    follow(page, "#notice button")
    told(page, "The job is cancelled")
    go(page, "/submit")
    check(page, None)
    follow(page, "main >> text=Back")


def look_around(page: Page) -> None:
    """What is left to look at; colours of one's own stay."""
    go(page, "/chains")
    check(page)
    use(page, "#theme")
    use(page, "#theme")
    go(page, "/nothing")
    assert page.ask("getComputedStyle(document.documentElement).colorScheme") == "dark"
    use(page, "#theme")
    check(page)
    follow(page, "main >> text=Overview")
    go(page, "/audit")
    wait(page, "text=not needed")
    check_narrow(page)
    follow(page, "text=Log out")
    wait(page, "#token")


class Deeds(NamedTuple):
    """What there was to do in a browser, and what of it was done."""

    seen: set[str]
    used: set[str]
    asked: list[list[str]]
    """Methods and URLs, without origin and prefix."""
    said: list[str]


def look_at_jobs(page: Page, url: str) -> None:
    """Follow one job after another, and look around."""
    come_in(page)
    job = cancel_and_change(page, url)
    see_it_run(page, url, job)
    act_on_one(page, url, job)
    look_around(page)


def look_at_lists(page: Page, url: str) -> None:
    """Do things to many jobs, to what they are of, and submit one."""
    log_in(page)
    act_on_some(page, url)
    hold_back(page)
    submit(page)


def work(web: Server, url: str, doing: Callable[[Page, str], None]) -> Deeds:
    """Do what people do, by keyboard; each page is checked where it is come by."""
    with open_page(f"{web.url}{PREFIX}/") as page:
        page.act(NOTE)
        doing(page, url)
        seen, used = (set(json.loads(page.ask(f"sessionStorage.getItem('{name}')"))) for name in ("seen", "used"))
        asked = [[method, each.removeprefix(web.url + PREFIX)] for method, each in page.act("return page.asked")]
        return Deeds(seen, used, asked, page.said.splitlines())


@in_loop
async def test_people_work_with_it_by_keyboard(database_url: str, other_database_url: str, tmp_path: Path) -> None:
    fill(database_url, 300)
    fill(other_database_url, 300)
    async with (
        served(database_url, WORKERJOBS_PATH_PREFIX=PREFIX) as one,
        # Not in a thread as well: FastAPI (0.165) holds warnings back, for all threads, while it reads its routes.
        server(other_database_url, tmp_path, WORKERJOBS_PATH_PREFIX=PREFIX) as another,
    ):
        # Side by side, each with a table of its own.
        parts = await asyncio.gather(
            asyncio.to_thread(work, one, database_url, look_at_jobs),
            asyncio.to_thread(work, another, other_database_url, look_at_lists),
        )

    # All that could be done was done.
    seen, used = (set().union(*(getattr(part, name) for part in parts)) for name in ("seen", "used"))
    assert seen - used == set()
    asked = [each for part in parts for each in part.asked]
    posted = [path for method, path in asked if method == "POST"]
    for route in (route for router in ROUTERS for route in router.routes):
        if "POST" in route.methods:
            assert any(route.path_regex.match(each) for each in posted), route.path
    assert [did for did in Did if not any(path.split("&")[0].endswith(f"did={did}") for _, path in asked)] == []
    said = [line for part in parts for line in part.said if "status of 404" not in line]
    assert not [line for line in said if "Error" in line or "Content Security Policy" in line], said

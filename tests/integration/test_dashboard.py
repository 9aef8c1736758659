"""The dashboard's pages and sessions, from a server that runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psycopg

from tests.support.cli import workerjobs, workerjobs_json
from tests.support.dashboard import fill
from tests.support.loop import in_loop
from tests.support.table import sql
from tests.support.web import TOKEN, served, server

PAGES = (
    "/?window=24h",
    "/jobs?state=failed&type=chargeCard",
    "/jobs?before=100",
    "/jobs/1",
    "/jobs/1/rerun",
    "/jobs/selected?action=cancel&ids=1&ids=2",
    "/cron?span=30d",
    "/pools",
    "/types",
    "/submit?type=resizeImage",
    "/chains",
    "/audit",
    "/pause?kind=pool&name=media",
)


class Browser:
    """As much of a browser as sessions need: it keeps cookies, and says where what it sends comes from."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http
        self.origin = {"Origin": re.sub(r"(://[^/]+).*", r"\1", url), "Sec-Fetch-Site": "same-origin"}

    async def get(self, path: str, **headers: str) -> tuple[int, str, aiohttp.ClientResponse]:
        """Ask for a page; redirections are not followed."""
        return await self._ask("GET", path, None, headers)

    async def post(
        self, path: str, fields: dict[str, str] | None = None, **headers: str
    ) -> tuple[int, str, aiohttp.ClientResponse]:
        """Send a form of a page of this server."""
        return await self._ask("POST", path, fields or {}, self.origin | headers)

    async def log_in(self, token: str, goes_to: str = "/") -> tuple[int, str, aiohttp.ClientResponse]:
        """Show a token."""
        return await self.post("/login", {"token": token, "next": goes_to})

    async def _ask(
        self, method: str, path: str, fields: dict[str, str] | None, headers: dict[str, str]
    ) -> tuple[int, str, aiohttp.ClientResponse]:
        given = {"Accept": "text/html"} | headers
        url = f"{self.url}{path}"
        async with self._http.request(method, url, data=fields, headers=given, allow_redirects=False) as answer:
            return answer.status, await answer.text(), answer


@asynccontextmanager
async def browser(url: str, address: str = "127.0.0.1", **headers: str) -> AsyncIterator[Browser]:
    """Open one without any cookie; what it asks comes from an address, with more headers."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    cookies = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=cookies, headers=headers) as http:
        yield Browser(url, http)


def submit(url: str, data: str = "{}") -> int:
    """Store a job that nobody runs."""
    with psycopg.connect(url) as connection:
        row = connection.execute("select workerjobs.submit('report', %s::json)", [data]).fetchone()
        assert row is not None
        return int(row[0])


def write_lines(url: str, job: int, number: int) -> None:
    """Store lines of a job, as its worker does."""
    with psycopg.connect(url) as connection:
        connection.execute(
            'insert into "workerJobLogs" ("jobId", at, level, message) '
            "select %s, now(), 'info', 'line ' || n || ' <b>' from generate_series(1, %s) as n",
            [job, number],
        )


def fields_of(page: str) -> dict[str, str]:
    """What the form of a page sends that nobody sees."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


@in_loop
async def test_browser_trades_a_token_for_a_session_that_ends_with_it(database_url: str, tmp_path: Path) -> None:
    job = submit(database_url)
    writer = workerjobs_json("token", "create", "ada", "--scope", "write", database_url=database_url)["token"]
    reader = workerjobs_json("token", "create", "bob", database_url=database_url)["token"]
    async with server(database_url, tmp_path) as web, browser(web.url) as ada, browser(web.url) as bob:
        # Without a session every page leads to where a token is asked for; files for that page are for everybody.
        status, _, answer = await ada.get(f"/jobs/{job}?did=submit")
        assert (status, answer.headers["Location"]) == (303, f"/login?next=%2Fjobs%2F{job}%3Fdid%3Dsubmit")
        assert (await ada.get("/login"))[0] == 200
        assert (await ada.get("/static/style.css"))[0] == 200
        status, _, answer = await ada.get("/", **{"HX-Request": "true"})
        assert (status, answer.headers["HX-Refresh"]) == (200, "true")

        status, page, answer = await ada.log_in("wj_wrong", "/jobs")
        assert (status, "Set-Cookie" in answer.headers) == (401, False)
        assert "not valid" in page
        assert 'value="/jobs"' in page
        for elsewhere in ("https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "x"):
            assert (await ada.log_in(writer, elsewhere))[2].headers["Location"] == "/"
        status, _, answer = await ada.log_in(writer, f"/jobs/{job}")
        assert (status, answer.headers["Location"]) == (303, f"/jobs/{job}")
        assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=43200"} <= {*answer.headers["Set-Cookie"].split("; ")}
        assert writer not in answer.headers["Set-Cookie"]
        status, page, _ = await ada.get(f"/jobs/{job}")
        assert (status, "ada" in page) == (200, True)
        assert (await ada.get("/api/v1/jobs"))[0] == 200

        # Only pages of this server may change something in a session's name.
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
        ):
            status, page, _ = await ada.post(f"/jobs/{job}/cancel", None, **headers)
            assert (status, "Another page sent this" in page) == (403, True)
        status, _, _ = await ada.post(f"/jobs/{job}/cancel", Origin="https://elsewhere.example")
        assert status == 403
        del ada.origin["Origin"], ada.origin["Sec-Fetch-Site"]
        assert (await ada.post(f"/api/v1/jobs/{job}/cancel"))[0] == 403
        assert sql(database_url, 'select count(*) from "workerJobs" where finished is null') == [(1,)]

        # A token that may look, looks.
        assert (await bob.log_in(reader))[0] == 303
        status, page, _ = await bob.get(f"/jobs/{job}")
        assert (status, "read only" in page, f"/jobs/{job}/cancel" in page) == (200, True, False)
        status, page, _ = await bob.post(f"/jobs/{job}/cancel")
        assert (status, "may look and not change anything" in page) == (403, True)
        assert workerjobs("token", "revoke", "bob", database_url=database_url).returncode == 0
        assert (await bob.get("/jobs"))[0] == 303

        ada.origin = bob.origin
        status, _, answer = await ada.post("/logout")
        assert (status, answer.headers["Location"]) == (303, "/login")
        assert (await ada.get("/jobs"))[0] == 303
        # The server's own token counts as well.
        assert (await ada.log_in(TOKEN))[0] == 303
        assert (await ada.get("/jobs"))[0] == 200
        log = web.log.read_text()
        secrets = [writer, reader, TOKEN, urlsplit(database_url).password or "no password"]
        assert not [secret for secret in secrets if secret in log]
        for path in ("/", "/login", *PAGES):
            page = (await ada.get(path))[1]
            assert not [secret for secret in secrets if secret in page], path


@in_loop
async def test_pages_tell_what_the_tables_hold_and_run_nothing_of_it(database_url: str, tmp_path: Path) -> None:
    fill(database_url, 400)
    evil = submit(database_url, '{"name": "<script>alert(1)</script>\\"\'"}')
    # On a loopback address without a token of its own, below a prefix that the proxy leaves on.
    variables = {"WORKERJOBS_SERVER_TOKEN": "", "WORKERJOBS_PATH_PREFIX": "/ops/jobs/"}
    async with (
        served(database_url, **variables) as web,
        browser(f"{web.url}/ops/jobs") as ada,
    ):
        for path in ("/", *PAGES):
            status, page, answer = await ada.get(path)
            assert status == 200, (path, page)
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert not re.search(r"<script(?! src)|<[^>]+ (style|on\w+)=", page), path
            assert not re.findall(r'(?:href|src|action|hx-get)="(?!/ops/jobs/|#)([^"]*)"', page), path
        overview = (await ada.get("/?window=24h"))[1]
        assert re.search(r'aria-label="Runs that ended in the last 24h: \d+, of which \d+ failed"', overview)
        assert "CardError: your card was declined" in overview
        assert "Orders of October" in overview
        page = (await ada.get(f"/jobs/{evil}"))[1]
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        ((tried,),) = sql(database_url, 'select id from "workerJobs" where attempt = 3')
        chain = (await ada.get(f"/jobs/{tried}"))[1]
        assert len(re.findall(r"GatewayError: 502 from the payment provider", chain)) == 2
        assert "morning-report" in (await ada.get("/cron"))[1]
        chains = (await ada.get("/chains"))[1]
        assert ("24,118,404" in chains, "asks to wait 12 s" in chains) == (True, True)
        pools = (await ada.get("/pools"))[1]
        assert "46 waiting for 2 places: about" in pools
        assert "ScaleDown" in pools

        # Filters stand in the URL, and pages follow each other.
        seen: list[str] = []
        following = "/jobs?state=succeeded&type=resizeImage"
        while following:
            page = (await ada.get(following))[1]
            seen += re.findall(r'id="job-(\d+)"', page)
            older = re.search(r'rel="next" href="/ops/jobs([^"]+)"', page)
            following = older[1].replace("&amp;", "&") if older else ""
        wanted = sql(
            database_url, 'select id from "workerJobs" where success and type = %s order by id desc', "resizeImage"
        )
        assert [int(each) for each in seen] == [each for (each,) in wanted]
        assert len(seen) > 100
        for words, goes_to in (
            ("17", "/ops/jobs/jobs/17"),
            ("#17", "/ops/jobs/jobs/17"),
            ("sync", "/ops/jobs/jobs?type=sync"),
        ):
            assert (await ada.get(f"/jobs?q={words.replace('#', '%23')}"))[2].headers["Location"] == goes_to

        # What can't be shown is said in words.
        for path, status, words in (
            ("/jobs/999999999", 404, "There is no job 999999999"),
            ("/jobs?state=odd", 422, "state: there is no state"),
            ("/nothing", 404, "Not Found"),
            ("/jobs/selected?action=cancel", 422, "ids"),
            ("/jobs/matching?type=syncStock", 422, "state: give one of"),
            ("/jobs/999999999/lines", 404, "There is no job 999999999"),
        ):
            found, page, answer = await ada.get(path)
            assert (found, words in page, answer.content_type) == (status, True, "text/html"), (path, page)
        assert (await ada.get("/nothing", Accept="application/json"))[2].content_type == "application/problem+json"


@in_loop
async def test_actions_change_what_they_say_and_are_noted(database_url: str, tmp_path: Path) -> None:
    fill(database_url, 40)
    job = submit(database_url)

    def state(of: int) -> tuple[bool | None, str | None]:
        return sql(database_url, "select success, result ->> 'error' from \"workerJobs\" where id = %s", of)[0]

    async with served(database_url, WORKERJOBS_SERVER_TOKEN="") as web, browser(web.url) as ada:
        _, _, answer = await ada.post(f"/jobs/{job}/cancel", {"reason": "not needed"})
        assert answer.headers["Location"] == f"/jobs/{job}?did=cancel&job={job}"
        assert state(job) == (False, "not needed")
        page = (await ada.get(answer.headers["Location"]))[1]
        assert f'action="/jobs/{job}/rerun"' in page
        assert (await ada.post(f"/jobs/{job}/cancel"))[0] == 409
        again = (await ada.post(f"/jobs/{job}/rerun"))[2].headers["Location"]
        (new,) = re.findall(r"/jobs/(\d+)\?did=again", again)
        assert f'action="/jobs/{new}/cancel"' in (await ada.get(again))[1]

        failed = [
            each for (each,) in sql(database_url, 'select id from "workerJobs" where not success order by id limit 1')
        ]
        _, _, answer = await ada.post("/jobs/retry", {"ids": str(failed[0])})
        assert answer.headers["Location"] == "/jobs?did=again-some&count=1"
        _, _, answer = await ada.post("/jobs/cancel", {"ids": new})
        assert answer.headers["Location"] == "/jobs?did=cancel-some&count=1&stopping=0"
        assert state(int(new)) == (False, "Job cancelled in the dashboard")

        # What a filter finds, at once: counted first, and those that were counted are meant.
        ((failing,),) = sql(
            database_url,
            'select count(*) from "workerJobs" as j where not success and started is not null and not exists ('
            'select from "workerJobs" as again where again."rescheduledFromJob" = j.id and again."cronKey" is null)',
        )
        assert failing > 1
        page = (await ada.get("/jobs/matching?state=failed"))[1]
        assert f"Retry {failing} jobs?" in page
        answer = (await ada.post("/jobs/retry", fields_of(page)))[2]
        assert answer.headers["Location"] == f"/jobs?did=again-some&count={failing}"
        page = (await ada.get(answer.headers["Location"]))[1]
        assert f"{failing} jobs run again" in page
        status, page, _ = await ada.get("/jobs/matching?state=failed")
        assert (status, "No job is like that any more" in page) == (422, True)
        page = (await ada.get("/jobs/matching?state=pending&pool=media"))[1]
        assert "Cancel 46 jobs?" in page
        new_one = submit(database_url)
        assert (await ada.post("/jobs/cancel", fields_of(page)))[0] == 303
        assert sql(
            database_url,
            'select id from "workerJobs" where started is null and finished is null and type = %s',
            "report",
        ) == [(new_one,)]

        for ids in ("", "0", "7,x", str(2**70), ",".join(["1"] * 1001)):
            assert (await ada.post("/jobs/retry", {"ids": ids}))[0] == 422
        assert (await ada.post("/jobs/cancel", {"ids": str(new_one), "reason": "a\0b"}))[0] == 422
        page = (await ada.get("/jobs?state=pending&since=2020-01-01&isLast=true"))[1]
        assert "/jobs/matching?state=pending&amp;since=2020-01-01&amp;isLast=true" in page

        # A job that waits is changed; one that is finished is deleted.
        assert 'name="due"' in (await ada.get(f"/jobs/{new_one}/change"))[1]
        status, page, _ = await ada.post(f"/jobs/{new_one}/change", {"due": "soon", "priority": "0", "pool": "default"})
        assert (status, "due" in re.findall(r'role="alert">(.*?)</div>', page)[0]) == (422, True)
        wanted = {"due": "2126-01-01T00:00:00Z", "priority": "7", "pool": "media"}
        answer = (await ada.post(f"/jobs/{new_one}/change", wanted))[2]
        assert answer.headers["Location"] == f"/jobs/{new_one}?did=change"
        assert "2126-01-01T00:00:00Z" in (await ada.get(f"/jobs/{new_one}/change"))[1]
        assert sql(database_url, 'select priority, pool from "workerJobs" where id = %s', new_one) == [(7, "media")]
        assert (await ada.post(f"/jobs/{new_one}/change", wanted))[2].headers["Location"] == f"/jobs/{new_one}"
        assert (await ada.post(f"/jobs/{new_one}/delete"))[0] == 409
        assert (await ada.post(f"/jobs/{job}/delete"))[2].headers["Location"] == f"/jobs?did=delete&job={job}"
        assert (await ada.get(f"/jobs/{job}"))[0] == 404

        # Cron jobs are run now, held back with a reason, and go on.
        answer = (await ada.post("/cron/trigger", {"name": "sync-stock"}))[2]
        (run,) = re.findall(r"/jobs/(\d+)\?did=trigger", answer.headers["Location"])
        assert f'action="/jobs/{run}/cancel"' in (await ada.get(answer.headers["Location"]))[1]
        answer = (await ada.post("/pause", {"kind": "cron", "name": "sync-stock", "reason": "stock taking"}))[2]
        page = (await ada.get(answer.headers["Location"]))[1]
        assert ("stock taking" in page, "/resume?kind=cron&amp;name=sync-stock" in page) == (True, True)
        assert "The cron job sync-stock starts no more runs" in page
        answer = (await ada.post("/resume", {"kind": "cron", "name": "sync-stock"}))[2]
        page = (await ada.get(answer.headers["Location"]))[1]
        assert ("stock taking" in page, "goes on with its next tick" in page) == (False, True)
        assert (await ada.post("/cron/trigger", {"name": "nothing"}))[0] == 404

        # The last lines of a job come first, those before them in pages, and new ones while it runs.
        ((running,),) = sql(
            database_url, "select id from \"workerJobs\" where progress ->> 'message' = %s", "Warehouse Hamburg"
        )
        write_lines(database_url, running, 401)
        page = (await ada.get(f"/jobs/{running}"))[1]
        shown = re.findall(r'class="text">(line \d+) &lt;b&gt;', page)
        (following,) = re.findall(r'hx-get="(/jobs/\d+/lines\?after=\d+)"', page)
        while earlier := re.findall(r'hx-get="(/jobs/\d+/lines\?before=\d+)"', page):
            page = (await ada.get(earlier[0]))[1]
            lines = re.findall(r'class="text">(line \d+)', page)
            assert (len(lines), "follow" in page) == (min(200, 401 - len(shown)), False)
            shown = lines + shown
        assert shown == [f"line {n}" for n in range(1, 402)]
        assert (await ada.get(following))[0] == 204
        write_lines(database_url, running, 201)
        page = (await ada.get(following))[1]
        assert re.findall(r'class="text">(line \d+)', page) == [f"line {n}" for n in range(1, 201)]
        (following,) = re.findall(r'id="follow" hx-get="([^"]+)"', page)
        page = (await ada.get(following))[1]
        assert re.findall(r'class="text">(line \d+)', page) == ["line 201"]
        # Without scripts, from the first line on.
        page = (await ada.get(f"/jobs/{running}?after=0"))[1]
        assert re.findall(r'class="text">(line \d+)', page) == [f"line {n}" for n in range(1, 201)]
        assert re.search(rf'href="/jobs/{running}\?after=\d+#logs">More lines', page)

        _, _, answer = await ada.post("/pause", {"kind": "pool", "name": "media", "reason": "new disks"})
        assert (await ada.get(answer.headers["Location"]))[1].count("new disks") == 1
        assert (await ada.post("/resume", {"kind": "pool", "name": "media"}))[0] == 303
        assert (await ada.post("/resume", {"kind": "pool", "name": "media"}))[0] == 404
        await ada.post("/pause", {"kind": "type", "name": "syncStock"})
        assert "Resume" in (await ada.get("/types"))[1]

        wrong = {"type": "resizeImage", "data": '{"widths": 3}', "pool": "media", "priority": "high"}
        status, page, _ = await ada.post("/submit", wrong)
        assert (status, "priority is &#39;high&#39;" in page) == (422, True)
        status, page, _ = await ada.post("/submit", wrong | {"priority": ""})
        assert (status, "image" in page, "widths" in page) == (422, True, True)
        status, _, answer = await ada.post("/submit", wrong | {"data": '{"image": "a.jpg"}', "priority": "3"})
        assert (status, "?did=submit&job=" in answer.headers["Location"]) == (303, True)

        audit = (await ada.get("/audit"))[1]
        for action in (
            "jobs.cancel",
            "jobs.rerun",
            "jobs.retry",
            "pools.pause",
            "pools.resume",
            "types.pause",
            "jobs.submit",
            "jobs.change",
            "jobs.delete",
            "cron.trigger",
            "cron.pause",
            "cron.resume",
        ):
            assert f"<code>{action}</code>" in audit
        assert "not needed" in audit


@in_loop
async def test_whom_a_proxy_has_signed_in_needs_no_token(database_url: str, tmp_path: Path) -> None:
    variables = {
        "WORKERJOBS_TRUSTED_PROXIES": "127.0.0.2",
        "WORKERJOBS_PROXY_USER_HEADER": "X-Forwarded-User",
        "WORKERJOBS_PROXY_READ_GROUPS": "staff",
        "WORKERJOBS_PROXY_WRITE_GROUPS": "ops",
        "WORKERJOBS_API_RATE": "2",
    }
    ops = {"X-Forwarded-User": "ada@example.org", "X-Forwarded-Groups": "ops"}
    async with (
        server(database_url, tmp_path, port=0, name="server", **variables) as web,
        browser(web.url, "127.0.0.2", **ops) as ada,
        browser(web.url, "127.0.0.1", **ops) as eve,
        browser(web.url, "127.0.0.2", **ops | {"X-Forwarded-Groups": "others"}) as bob,
    ):
        status, page, _ = await ada.get("/types")
        assert (status, "ada@example.org, signed in by the proxy" in page, "Log out" in page) == (200, True, False)
        status, _, answer = await ada.get("/login?next=/cron")
        assert (status, answer.headers["Location"]) == (303, "/cron")
        assert (await eve.get("/types"))[2].headers["Location"] == "/login?next=%2Ftypes"
        assert (await eve.get("/login"))[0] == 200
        for path in ("/types", "/login"):
            status, page, answer = await bob.get(path)
            assert (status, answer.content_type) == (403, "text/html")
            assert "is in none of the groups" in page
        # Too often, and under another name than its own: pages, too.
        while (found := await ada.get("/audit"))[0] == 200:
            pass
        status, page, answer = found
        assert (status, answer.content_type, "Try again" in page) == (429, "text/html", True)
        assert int(answer.headers["Retry-After"]) >= 1
        status, page, answer = await eve.get("/", Host="elsewhere.example")
        assert (status, answer.content_type, "on this machine alone" in page) == (403, "text/html", True)

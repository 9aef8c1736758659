"""Notifications in a real browser."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg

from tests.support.browser import Page, open_page
from tests.support.loop import in_loop
from tests.support.ports import free_port
from tests.support.web import MARK_SECONDS, ServerProcess, make_users, server
from workerjobs import notify
from workerjobs.storage.quickdapp import install_quickdapp

PAGE = """<!doctype html>
<script>
const shown = { stream: [], socket: [], errors: 0, marks: 0 }
const query = new URLSearchParams(location.search)
const stream = new EventSource(`${query.get("server")}/api/notifications/stream?ticket=${query.get("ticket")}`)
stream.addEventListener("notification", (event) => shown.stream.push(JSON.parse(event.data).data.message))
stream.onopen = () => (shown.open = true)
stream.onerror = () => shown.errors++
const socket = new WebSocket(
  `${query.get("server").replace("http", "ws")}/api/notifications/socket?ticket=${query.get("ticket")}`)
socket.onmessage = (event) => {
  const { event: kind, message } = JSON.parse(event.data)
  if (kind === "mark") shown.marks++
  if (kind === "notification") shown.socket.push(message.data.message)
}
</script>
"""


@contextmanager
def pages(folder: Path) -> Iterator[str]:
    """Serve a folder, as an application's own server would: another origin than WorkerJobs'."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


@in_loop
async def test_browser_gets_notifications_also_those_of_a_time_without_the_server(
    database_url: str, tmp_path: Path
) -> None:
    install_quickdapp(database_url)
    make_users(database_url, 7)
    (tmp_path / "index.html").write_text(PAGE)

    def tell(message: str) -> None:
        with psycopg.connect(database_url) as connection:
            notify(connection, 7, {"type": "token_created", "message": message})

    def first_part(page: Page) -> None:
        page.wait_for("shown.open && shown.marks", bool, seconds=MARK_SECONDS)
        tell("Created new token GLD (Gold)")
        for way in ("stream", "socket"):
            page.wait_for(f"shown.{way}", lambda seen: seen == ["Created new token GLD (Gold)"])
        # Both know now that they got it.
        page.wait_for("shown.marks", lambda marks: marks > 1, seconds=MARK_SECONDS)

    def second_part(page: Page, web: ServerProcess) -> None:
        page.wait_for("shown.stream", lambda seen: seen[1:] == ["while it was away"])
        tell("back again")
        page.wait_for("shown.stream", lambda seen: seen[2:] == ["back again"])
        assert web.process.poll() is None

    port = free_port()
    async with server(database_url, tmp_path, WORKERJOBS_TICKET_SECONDS="600", port=port) as web:
        address, ticket = web.url, await web.ticket(7)
        with pages(tmp_path) as site, open_page(f"{site}/?server={address}&ticket={ticket}") as page:
            await asyncio.to_thread(first_part, page)
            web.process.terminate()
            await asyncio.to_thread(web.process.wait)
            await asyncio.to_thread(page.wait_for, "shown.errors", bool)
            tell("while it was away")
            async with server(
                database_url, tmp_path, name="again", WORKERJOBS_TICKET_SECONDS="600", port=port
            ) as again:
                await asyncio.to_thread(second_part, page, again)

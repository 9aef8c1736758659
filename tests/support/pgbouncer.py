"""A real pgbouncer for tests, in transaction mode unless said otherwise, strict about what clients send at their start.

``python -m tests.support.pgbouncer`` installs it where that is possible: by apt, as root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

from tests.support.packages import install_or_say
from tests.support.ports import free_port
from tests.support.require import require_or_skip

START_SECONDS = 60.0


def find_pgbouncer() -> str | None:
    """The program's path; system accounts have /usr/sbin, others need not."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass
class Pgbouncer:
    """One pgbouncer in front of one server."""

    port: int
    direct_url: str
    log: Path

    def url_for(self, direct_url: str) -> str:
        """The way to a database through it, with the same account."""
        parts = urlsplit(direct_url)
        return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self.port}").geturl()

    def admin(self, command: str) -> None:
        """Run a command of its console, such as ``PAUSE`` or ``RECONNECT``."""
        url = urlsplit(self.url_for(self.direct_url))._replace(path="/pgbouncer").geturl()
        # Its console speaks the simple protocol only.
        with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as console:
            console.execute(command.encode())


@contextmanager
def pgbouncer(direct_url: str, **settings: str) -> Iterator[Pgbouncer]:
    """Run a pgbouncer in front of a server.

    Args:
        direct_url: Any database of the server; its account is the only one that pgbouncer knows.
        settings: More of pgbouncer.ini, or other values.
    """
    program = find_pgbouncer()
    if program is None:
        require_or_skip("pgbouncer", "pgbouncer is not installed: as root, `python -m tests.support.pgbouncer`")
    parts = urlsplit(direct_url)
    port = free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workerjobs-pgbouncer-")))
        # It refuses to run as root.
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        log = folder / "pgbouncer.log"
        _write_configuration(
            folder,
            {"*": f"host={parts.hostname} port={parts.port}"},
            {
                "listen_addr": "127.0.0.1",
                "listen_port": str(port),
                "unix_socket_dir": "",
                "auth_type": "scram-sha-256",
                "auth_file": str(folder / "users.txt"),
                "admin_users": unquote(parts.username or ""),
                "pool_mode": "transaction",
                # Few, so that sessions do change hands.
                "default_pool_size": "3",
                "max_client_conn": "100",
                # Back soon after an outage; 15 s by default.
                "server_login_retry": "1",
                **settings,
            },
        )
        (folder / "users.txt").write_text(f'"{unquote(parts.username or "")}" "{unquote(parts.password or "")}"\n')
        if account is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        process = subprocess.Popen(
            [program, str(folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=stack.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        stack.callback(process.wait, 10)
        stack.callback(process.kill)
        running = Pgbouncer(port, direct_url, log)
        _wait_for(running, process)
        yield running


def _write_configuration(folder: Path, databases: Mapping[str, str], settings: Mapping[str, str]) -> None:
    lines = ["[databases]", *(f"{name} = {value}" for name, value in databases.items())]
    lines += ["[pgbouncer]", *(f"{name} = {value}" for name, value in settings.items()), ""]
    (folder / "pgbouncer.ini").write_text("\n".join(lines))


def _wait_for(running: Pgbouncer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return psycopg.connect(running.url_for(running.direct_url), connect_timeout=20).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"pgbouncer did not start: {running.log.read_text()}") from None
            time.sleep(0.02)


if __name__ == "__main__" and find_pgbouncer() is None:
    install_or_say("pgbouncer")

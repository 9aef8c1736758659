"""Where the test cluster's programs come from: Kubernetes, etcd and what else ``modules`` pins.

Each program is taken from the first of these sources that has it:

1. ``KUBEBUILDER_ASSETS``, a folder as ``setup-envtest`` fills it (it has no kube-controller-manager).
2. The cache folder: ``WORKERJOBS_CACHE``, else ``~/.cache/workerjobs``. It may be deleted at any time.
3. For Kubernetes and etcd the projects' official downloads, checked against the checksums published beside them.
   ``WORKERJOBS_KUBERNETES_URL`` and ``WORKERJOBS_ETCD_URL`` name mirrors; ``WORKERJOBS_NO_DOWNLOAD=1`` leaves this
   source out.
4. A build of the Go module, which takes minutes the first time.

What 3 and 4 bring goes into the cache. Versions are those of the module's ``go.mod``, whatever the source.
"""

import contextlib
import os
import platform
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tests.support.cluster import gobuild
from tests.support.cluster.downloads import get_file, get_text
from tests.support.cluster.modules import CONTROL_PLANE, Module
from tests.support.cluster.sources import Report, SourceError, cache_folder, report_to_stderr

API_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
"""What a cluster without nodes consists of."""


class BinariesError(Exception):
    """The programs are not to be had on this machine; the message names every source and why it failed."""


@dataclass(frozen=True)
class Binary:
    """One program and where it came from.

    Attributes:
        path: The executable.
        source: The source in words, for people.
    """

    path: Path
    source: str


def find_binaries(
    module: Module = CONTROL_PLANE, names: Collection[str] | None = None, report: Report = report_to_stderr
) -> dict[str, Binary]:
    """Find, download or build programs of one module.

    Safe to call from many processes at once: one gets what is missing, the others wait for it.

    Args:
        module: One of ``modules``.
        names: Which of its programs; all of them where left out.
        report: Hears how it goes.

    Returns:
        One entry for each of ``names``.

    Raises:
        BinariesError: A program is missing and no source has it.
    """
    names = module.packages if names is None else names
    found = _from_assets(names)
    missing = [name for name in names if name not in found]
    if not missing:
        return found

    folder = cache_folder() / module.name / module.cache_key()
    found |= _from_cache(folder, missing)
    missing = [name for name in names if name not in found]
    if not missing:
        return found

    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, module, report):
        # Whoever held the lock before may have brought them, or may have been killed half-way.
        found |= _from_cache(folder, missing)
        for leftover in folder.glob("partial-*"):
            shutil.rmtree(leftover)

        failures = []
        for source, get in _sources(module):
            missing = [name for name in names if name not in found]
            if not missing:
                break
            with tempfile.TemporaryDirectory(dir=folder, prefix="partial-") as partial:
                try:
                    get(module, missing, Path(partial), report)
                except SourceError as error:
                    report(f"no {source}: {error}")
                    failures.append(f"{source}: {error}")
                for name in missing:
                    if (path := Path(partial, name)).exists():
                        path.chmod(0o755)
                        # A rename is atomic: under its own name a program is always whole.
                        found[name] = Binary(path.rename(folder / name), source)
    if missing := [name for name in names if name not in found]:
        raise BinariesError(f"the test cluster lacks {', '.join(missing)}: {'; '.join(failures)}")
    return found


_Get = Callable[[Module, Collection[str], Path, Report], None]


def _sources(module: Module) -> Iterator[tuple[str, _Get]]:
    if module.source == CONTROL_PLANE.source:
        yield "official download", _download
    yield "Go build", gobuild.build


@contextlib.contextmanager
def _locked(folder: Path, module: Module, report: Report) -> Iterator[None]:
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        report(f"waiting for another process that is getting the programs of {module.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _from_assets(names: Collection[str]) -> dict[str, Binary]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    paths = {name: Path(assets, name) for name in names} if assets else {}
    return {name: Binary(path, "KUBEBUILDER_ASSETS") for name, path in paths.items() if path.is_file()}


def _from_cache(folder: Path, names: Collection[str]) -> dict[str, Binary]:
    return {name: Binary(folder / name, "cache") for name in names if (folder / name).is_file()}


def _download(module: Module, names: Collection[str], into: Path, report: Report) -> None:
    if os.environ.get("WORKERJOBS_NO_DOWNLOAD") == "1":
        raise SourceError("WORKERJOBS_NO_DOWNLOAD is set")
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if sys.platform != "linux" or architecture is None:
        raise SourceError(f"there is none for {sys.platform} on {platform.machine()}")
    kubernetes = os.environ.get("WORKERJOBS_KUBERNETES_URL", "https://dl.k8s.io").rstrip("/")
    etcd = os.environ.get("WORKERJOBS_ETCD_URL", "https://github.com/etcd-io/etcd/releases/download").rstrip("/")
    failures: dict[str, str] = {}
    for name in names:
        site = etcd if name == "etcd" else kubernetes
        if site in failures:
            continue  # asking again would only take longer
        try:
            if name == "etcd":
                version = module.pinned(module.packages["etcd"])
                _download_etcd(f"{site}/{version}", f"etcd-{version}-linux-{architecture}", into, report)
            else:
                url = f"{site}/{module.version}/bin/linux/{architecture}/{name}"
                get_file(url, get_text(f"{url}.sha256").strip(), into / name, report)
        except SourceError as error:
            failures[site] = str(error)
    if failures:
        raise SourceError("; ".join(failures.values()))


def _download_etcd(folder_url: str, release: str, into: Path, report: Report) -> None:
    url = f"{folder_url}/{release}.tar.gz"
    # Lines as sha256sum writes them: the checksum, two spaces, the file.
    match = re.search(rf"(?m)^(\w+)  {re.escape(release)}\.tar\.gz$", get_text(f"{folder_url}/SHA256SUMS"))
    if match is None:
        raise SourceError(f"{url} has no checksum")
    archive = into / "etcd.tar.gz"
    get_file(url, match[1], archive, report)
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"{release}/etcd")
        assert member, "the official archive holds etcd as a file"
        with member, (into / "etcd").open("wb") as file:
            shutil.copyfileobj(member, file)

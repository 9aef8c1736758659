"""Where the test cluster's programs come from: the order of the sources, their checks, and the cache."""

import hashlib
import http.server
import io
import os
import platform
import shutil
import socket
import sys
import tarfile
import threading
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.cluster import downloads, gobuild
from tests.support.cluster.binaries import API_PROGRAMS, BinariesError, find_binaries
from tests.support.cluster.modules import CONTROL_PLANE, HELM, MODULES, RUNC, TOOLS, Module
from tests.support.cluster.sources import Report, SourceError

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or ARCHITECTURE is None,
    reason="Kubernetes publishes its servers for Linux on amd64 and arm64",
)


class Builder:
    """Stands in for the Go build, which takes minutes."""

    def __init__(self) -> None:
        self.built: list[str] = []
        self.error: str | None = None

    def __call__(self, module: Module, names: Collection[str], into: Path, report: Report) -> None:
        if self.error:
            raise SourceError(self.error)
        self.built += names
        for name in names:
            (into / name).write_text(f"built {name}")


class Mirror:
    """A folder laid out as the official download sites are, and a server of it."""

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url
        etcd = CONTROL_PLANE.pinned("go.etcd.io/etcd/server/v3")
        self.kubernetes = root / "kubernetes" / CONTROL_PLANE.version / "bin" / "linux" / str(ARCHITECTURE)
        self.etcd = root / "etcd" / etcd
        self.archive = self.etcd / f"etcd-{etcd}-linux-{ARCHITECTURE}.tar.gz"

    def publish(self) -> None:
        self.kubernetes.mkdir(parents=True)
        self.etcd.mkdir(parents=True)
        for name in ("kube-apiserver", "kube-controller-manager"):
            content = f"official {name}".encode()
            (self.kubernetes / name).write_bytes(content)
            (self.kubernetes / f"{name}.sha256").write_text(hashlib.sha256(content).hexdigest())
        with tarfile.open(self.archive, "w:gz") as tar:
            content = b"official etcd"
            member = tarfile.TarInfo(f"{self.archive.name.removesuffix('.tar.gz')}/etcd")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        checksum = hashlib.sha256(self.archive.read_bytes()).hexdigest()
        (self.etcd / "SHA256SUMS").write_text(f"{'0' * 64}  another.tar.gz\n{checksum}  {self.archive.name}\n")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        """Keep the test's output clean."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    root = tmp_path / "mirror"
    root.mkdir()

    def handler(*args: object, **kwargs: object) -> QuietHandler:
        return QuietHandler(*args, directory=str(root), **kwargs)  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield Mirror(root, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Builder:
    builder = Builder()
    monkeypatch.setattr(gobuild, "build", builder)
    return builder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, an empty mirror, no other source."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.delenv("WORKERJOBS_NO_DOWNLOAD", raising=False)
    monkeypatch.setenv("WORKERJOBS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WORKERJOBS_KUBERNETES_URL", f"{mirror.url}/kubernetes")
    monkeypatch.setenv("WORKERJOBS_ETCD_URL", f"{mirror.url}/etcd/")
    return tmp_path / "cache"


def contents() -> dict[str, str]:
    return {name: binary.path.read_text() for name, binary in find_binaries(names=API_PROGRAMS).items()}


def sources() -> dict[str, str]:
    return {name: binary.source for name, binary in find_binaries(names=API_PROGRAMS).items()}


def test_official_download_is_preferred_to_a_build(mirror: Mirror, builder: Builder) -> None:
    mirror.publish()
    assert contents() == {name: f"official {name}" for name in API_PROGRAMS}
    assert all(os.access(binary.path, os.X_OK) for binary in find_binaries(names=API_PROGRAMS).values())
    assert builder.built == []


def test_what_was_downloaded_comes_from_the_cache_next_time(mirror: Mirror, builder: Builder) -> None:
    mirror.publish()
    assert set(sources().values()) == {"official download"}
    assert set(sources().values()) == {"cache"}


def test_modules_are_built_where_nothing_can_be_downloaded(
    builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert contents() == {name: f"built {name}" for name in API_PROGRAMS}
    assert capsys.readouterr().err.count("\n") == 1, "one line says why there was no download"


def test_no_download_is_tried_where_it_is_switched_off(
    mirror: Mirror, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.publish()
    monkeypatch.setenv("WORKERJOBS_NO_DOWNLOAD", "1")
    assert set(sources().values()) == {"Go build"}


def test_unreachable_site_is_given_up_at_once(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    for site in ("WORKERJOBS_ETCD_URL", "WORKERJOBS_KUBERNETES_URL"):
        monkeypatch.setenv(site, "http://127.0.0.1:1")  # a port nothing listens on
    assert set(sources().values()) == {"Go build"}


@pytest.mark.parametrize("name", API_PROGRAMS)
def test_download_with_the_wrong_checksum_is_refused(
    name: str, mirror: Mirror, builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.publish()
    with (mirror.archive if name == "etcd" else mirror.kubernetes / name).open("ab") as file:
        file.write(b"tampered with")
    assert contents()[name] == f"built {name}"
    assert "wrong checksum" in capsys.readouterr().err


def test_etcd_archive_without_a_published_checksum_is_refused(mirror: Mirror, builder: Builder) -> None:
    mirror.publish()
    (mirror.etcd / "SHA256SUMS").write_text(f"{'0' * 64}  another.tar.gz\n")
    assert contents()["etcd"] == "built etcd"


def test_programs_missing_from_the_assets_come_from_the_next_source(
    tmp_path: Path, mirror: Mirror, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.publish()
    for name in ("etcd", "kube-apiserver", "kubectl"):  # what setup-envtest brings
        (tmp_path / name).touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert sources() == {
        "etcd": "KUBEBUILDER_ASSETS",
        "kube-apiserver": "KUBEBUILDER_ASSETS",
        "kube-controller-manager": "official download",
    }
    assert builder.built == []


def test_site_that_does_not_answer_is_given_up_soon(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_CONNECT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for site in ("WORKERJOBS_ETCD_URL", "WORKERJOBS_KUBERNETES_URL"):
            monkeypatch.setenv(site, f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert set(sources().values()) == {"Go build"}


def test_one_site_out_of_reach_leaves_the_other_one_in_use(
    mirror: Mirror, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.publish()
    monkeypatch.setenv("WORKERJOBS_ETCD_URL", "http://127.0.0.1:1")
    assert sources()["kube-apiserver"] == "official download"
    assert builder.built == ["etcd"]


def test_download_that_stops_half_way_leaves_only_the_rest_to_the_build(mirror: Mirror, builder: Builder) -> None:
    mirror.publish()
    (mirror.kubernetes / "kube-controller-manager").unlink()
    assert sources()["kube-apiserver"] == "official download"
    assert builder.built == ["kube-controller-manager"]


def test_half_written_cache_is_not_used(cache: Path, builder: Builder) -> None:
    partial = cache / "controlplane" / CONTROL_PLANE.cache_key() / "partial-of-a-killed-process"
    partial.mkdir(parents=True)
    (partial / "etcd").write_text("hal")
    assert contents() == {name: f"built {name}" for name in API_PROGRAMS}
    assert not partial.exists()


def test_interrupted_build_leaves_nothing_in_the_cache(
    cache: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(module: Module, names: Collection[str], into: Path, report: Report) -> None:
        (into / "etcd").write_text("hal")
        raise KeyboardInterrupt

    monkeypatch.setattr(gobuild, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_binaries(names=API_PROGRAMS)
    assert list(cache.rglob("etcd")) == []


def test_cache_is_another_one_after_a_change_of_the_pins(tmp_path: Path, builder: Builder) -> None:
    find_binaries(names=API_PROGRAMS)
    changed = replace(CONTROL_PLANE, folder=tmp_path / "controlplane")
    shutil.copytree(CONTROL_PLANE.folder, changed.folder)
    with (changed.folder / "go.mod").open("a") as file:
        file.write("// changed\n")
    assert {binary.source for binary in find_binaries(changed, API_PROGRAMS).values()} == {"Go build"}


def test_each_module_has_a_cache_of_its_own(cache: Path, builder: Builder) -> None:
    assert find_binaries(HELM)["helm"].path.parent == cache / "helm" / HELM.cache_key()
    assert builder.built == ["helm"]
    assert find_binaries(HELM)["helm"].source == "cache"


def test_module_without_official_downloads_is_built(mirror: Mirror, builder: Builder) -> None:
    mirror.publish()
    assert {binary.source for binary in find_binaries(RUNC).values()} == {"Go build"}


def test_program_asked_for_later_is_all_that_is_built_then(builder: Builder) -> None:
    find_binaries(names=API_PROGRAMS)
    builder.built.clear()
    find_binaries(names=[*API_PROGRAMS, "kubelet"])
    assert builder.built == ["kubelet"]


def test_processes_that_start_together_build_once(builder: Builder) -> None:
    threads = [threading.Thread(target=find_binaries, kwargs={"names": API_PROGRAMS}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builder.built == list(API_PROGRAMS)


def test_error_names_every_source_that_failed(builder: Builder) -> None:
    builder.error = "there is no Go"
    with pytest.raises(BinariesError, match=r"lacks etcd, .*: official download: .*404.*; Go build: there is no Go"):
        find_binaries(names=API_PROGRAMS)


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_module_pins_what_it_names(module: Module) -> None:
    assert module.version.startswith("v")
    assert module.oldest_go.startswith("1.")
    sums = (module.folder / "go.sum").read_text()
    assert f"{module.source} {module.version} h1:" in sums


def test_every_tool_folder_is_a_known_module() -> None:
    assert {folder.name for folder in TOOLS.iterdir()} == set(MODULES)


def test_control_plane_pins_kubernetes_and_etcd() -> None:
    assert CONTROL_PLANE.pinned("go.etcd.io/etcd/server/v3").startswith("v3.")
    assert CONTROL_PLANE.version.startswith("v1.")

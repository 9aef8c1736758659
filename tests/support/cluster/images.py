"""Container images without a registry: a base by mmdebstrap, the project's own by buildah, and the pause image.

All need root and Debian's packages (``PACKAGES``). They are kept in the cache folder as docker-archives, each named by
everything that decides what is in it; buildah keeps its layers there, so that a change of the code costs seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

from tests.support.cluster.sources import Report, cache_folder, report_to_stderr

PACKAGES = ("mmdebstrap", "buildah", "gcc", "libc6-dev")
BASE_VARIABLE = "WORKERJOBS_BASE_IMAGE"
"""Names a base image that buildah can get, for machines with a registry; left out, one is made of Debian packages."""

_REPOSITORY = Path(__file__).parents[3]
_DEBIAN = "bookworm"
_BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates")
# As in Docker's slim images: nothing reads these in a container.
_LEFT_OUT = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)
_CONTEXT = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "operator")
# Of each image: other working copies of this repository have others.
_KEPT = 3
_PROGRESS_SECONDS = 15.0
_PROGRESS_CHARACTERS = 100


class ImagesError(Exception):
    """An image cannot be made here; the message says why."""


@dataclass(frozen=True)
class Image:
    """An image as a node takes it.

    Attributes:
        name: As pods say it. Its tag is that of its content: what was built anew has another name, so that a Deployment
            that names it rolls out.
        archive: A docker-archive that holds it.
    """

    name: str
    archive: Path


def project_image(report: Report = report_to_stderr) -> Image:
    """Build the project's image, unless nothing changed since it was built.

    Raises:
        ImagesError: It cannot be built.
    """
    with _locked():
        base = os.environ.get(BASE_VARIABLE) or _base(report)
        return _built("workerjobs", _REPOSITORY, base, [_REPOSITORY / name for name in _CONTEXT], report)


def image_of(name: str, folder: Path, report: Report = report_to_stderr) -> Image:
    """Build an image from a folder whose Dockerfile begins with ``ARG BASE`` and ``FROM ${BASE}``: the project's image.

    Args:
        name: Without registry and tag.
        folder: Its Dockerfile and what that copies.
        report: Hears how it goes.

    Raises:
        ImagesError: It cannot be built.
    """
    base = project_image(report)
    with _locked():
        return _built(name, folder, base.name, [folder], report)


def pause_image() -> Image:
    """Make the image of the process that holds a pod's namespaces.

    Raises:
        ImagesError: There is no C compiler.
    """
    source = Path(__file__).with_name("pause.c")
    key = _digest([source])
    image = Image(f"localhost/pause:{key}", _images() / f"pause-{key}.tar")
    with _locked():
        if not image.archive.exists():
            with _partial() as folder:
                program = folder / "pause"
                _run(["gcc", "-static", "-Os", "-s", "-o", str(program), str(source)])
                _write_archive(folder / "image.tar", image.name, program)
                (folder / "image.tar").rename(image.archive)
    return image


def _write_archive(path: Path, name: str, program: Path) -> None:
    """Write a docker-archive of one layer that holds one program.

    Source:
        moby/docker-image-spec, v1.2, "Combined Image JSON + Filesystem Changeset Format".
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tarfile.TarInfo(program.name)
        member.size, member.mode = program.stat().st_size, 0o755
        with program.open("rb") as file:
            tar.addfile(member, file)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for file_name, content in (
            ("layer.tar", layer.getvalue()),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(file_name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _base(report: Report) -> str:
    """Make the base image in buildah's storage; returns its name."""
    how = json.dumps([_DEBIAN, _BASE_PACKAGES, _LEFT_OUT, platform.machine()])
    name = f"localhost/python-base:{hashlib.sha256(how.encode()).hexdigest()[:16]}"
    if _buildah("images", "--quiet", "--filter", f"reference={name}").strip():
        return name
    with _partial() as folder:
        report(f"making a base image of Debian {_DEBIAN} with Python, about two minutes")
        options = [f"--dpkgopt={option}" for option in _LEFT_OUT]
        command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(_BASE_PACKAGES)}", *options]
        _run([*command, _DEBIAN, str(folder / "rootfs.tar")], report=report)
        (folder / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
        _buildah("build", "--isolation", "chroot", "--tag", name, str(folder))
    return name


def _built(name: str, folder: Path, base: str, sources: Sequence[Path], report: Report) -> Image:
    """Build one image and write its archive, in place of the one before."""
    key = _digest(sources, base)
    image = Image(f"localhost/{name}:{key}", _images() / f"{name}-{key}.tar")
    if image.archive.exists():
        return image
    report(f"building the image {name}")
    command = ["build", "--layers", "--isolation", "chroot", "--network", "host", "--build-arg", f"BASE={base}"]
    with _partial() as partial:
        if configuration := _pip_configuration():
            (partial / "pip.conf").write_text(configuration)
            command += ["--secret", f"id=pip.conf,src={partial / 'pip.conf'}"]
        # The authorities this machine trusts, which may be more than the base's, where a proxy looks into TLS.
        if Path("/etc/ssl/certs").is_dir():
            command += ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]
        _buildah(*command, "--tag", image.name, str(folder), report=report)
        _buildah("push", "--quiet", image.name, f"docker-archive:{partial / 'image.tar'}:{image.name}", report=report)
        (partial / "image.tar").rename(image.archive)
    archives = sorted(_images().glob(f"{name}-*.tar"), key=lambda archive: archive.stat().st_mtime, reverse=True)
    for former in archives[_KEPT:]:
        former.unlink()
        _buildah("rmi", f"localhost/{name}:{former.stem.rpartition('-')[2]}", check=False)  # its own layers alone
    return image


def _pip_configuration() -> str:
    """What pip is told on this machine about where packages are, without this machine's folders and certificates."""
    listed = subprocess.run(["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    options: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in ("index-url", "extra-index-url", "trusted-host"):
            options[option] = value.strip("'\"").replace("\\n", " ")
    if not options:
        return ""
    return "\n".join(["[global]", *(f"{option} = {value}" for option, value in options.items()), ""])


def _buildah(*arguments: str, check: bool = True, report: Report | None = None) -> str:
    storage = ["--root", str(_images() / "storage"), "--runroot", str(_images() / "run"), "--storage-driver", "overlay"]
    return _run(["buildah", *storage, *arguments], check=check, report=report)


def _run(command: Sequence[str], *, check: bool = True, report: Report | None = None) -> str:
    """Run a program and return what it printed; with a ``report``, say every now and then how far it is."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        except FileNotFoundError:
            raise ImagesError(f"there is no {command[0]} on this machine") from None
        with process:
            while True:
                try:
                    process.wait(_PROGRESS_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if report is not None:
                        report(f"{command[0]} runs for {time.monotonic() - started:.0f} s: {_last_line(output)}")
        output.seek(0)
        text = output.read().decode(errors="replace")
    if check and process.returncode != 0:
        end = "\n".join(text.strip().splitlines()[-15:])
        raise ImagesError(f"{command[0]} failed with exit code {process.returncode}; the end of what it said:\n{end}")
    return text


def _last_line(output: IO[bytes]) -> str:
    # pread, as the program goes on writing at the file's position.
    size = os.fstat(output.fileno()).st_size
    text = os.pread(output.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")[:_PROGRESS_CHARACTERS]


def _digest(paths: Sequence[Path], *more: str) -> str:
    digest = hashlib.sha256(repr(more).encode())
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(path.parent)}\0{file.stat().st_size}\n".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _images() -> Path:
    folder = cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with FileLock(_images() / "lock"):
        yield


@contextlib.contextmanager
def _partial() -> Iterator[Path]:
    """A folder for what is half made; what a killed process left of its own is removed before."""
    for leftover in _images().glob("partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=_images(), prefix="partial-") as folder:
        yield Path(folder)

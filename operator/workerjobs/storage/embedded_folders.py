"""Where the embedded Postgres keeps its files, and as which account it runs: not root, and not in root's home."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from workerjobs.cache import cache_folder
from workerjobs.errors import InvalidSettingsError

_ROOT_HOME = Path("/var/cache/workerjobs")
OTHER_INSTALLATION = "set DATABASE_URL to a Postgres that runs already"
"""What always helps, at the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine that Postgres runs as."""

    uid: int
    gid: int


def postgres_home() -> Path:
    """Name the folder of all persistent embedded servers of this user: ``postgres`` in the cache folder.

    Postgres refuses to run as root, so for root it runs as another account, which can't get into root's home. Where
    that account can't get into the cache folder, root's servers live in ``/var/cache/workerjobs`` instead.

    Raises:
        InvalidSettingsError: ``WORKERJOBS_CACHE`` names a folder that the account can't get into. There is no
            second choice then: the caller may have named it to be apart from another database.
    """
    home = cache_folder()
    if os.geteuid() == 0 and not is_open_to_others(home):
        if "WORKERJOBS_CACHE" in os.environ:
            raise InvalidSettingsError(not_open(home, "WORKERJOBS_CACHE"))
        home = _ROOT_HOME
    return home / "postgres"


def account_for(data: Path) -> Account | None:
    """Choose the account that Postgres runs as; None for this process's own."""
    if os.geteuid() != 0:
        return None
    # Postgres accepts its data from their owner only, whatever accounts were added since.
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise InvalidSettingsError(
        "Postgres refuses to run as root, and this machine has no account named postgres or nobody: "
        f"run WorkerJobs as another user, or {OTHER_INSTALLATION}"
    )


def is_open_to_others(path: Path) -> bool:
    """Tell whether any account may pass through all folders of a path; what does not exist yet counts as open."""
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.resolve().parents) if part.exists())


def not_open(path: Path, what: str) -> str:
    """Say that the account that Postgres runs as can't get into a folder."""
    return (
        f"Postgres can't run as root, and the account that it runs as can't get into {path} ({what}): "
        f"choose a folder that every account may pass through, or {OTHER_INSTALLATION}"
    )


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder and what is missing above it, all with this mode."""
    for part in (*reversed(folder.parents), folder):
        if not part.exists():
            part.mkdir(exist_ok=True)
            part.chmod(mode)  # Whatever the umask is.
    folder.chmod(mode)


def write_file(path: Path, text: str, mode: int, account: Account | None = None) -> None:
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

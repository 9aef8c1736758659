"""The folder for files that WorkerJobs can make again: the embedded Postgres and downloaded programs."""

from __future__ import annotations

import os
from pathlib import Path

from workerjobs.errors import InvalidSettingsError


def cache_folder() -> Path:
    """Name the cache folder of this user; it need not exist yet.

    ``WORKERJOBS_CACHE`` if it is set, else ``workerjobs`` below ``XDG_CACHE_HOME`` or ``~/.cache``. The embedded
    Postgres of root may have to live elsewhere: see ``workerjobs.storage.embedded_folders.postgres_home``.

    Raises:
        InvalidSettingsError: The folder would be below the home folder, and this user has none.

    Source:
        XDG Base Directory Specification 0.8: a relative ``XDG_CACHE_HOME`` is invalid and ignored.
    """
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if chosen := os.environ.get("WORKERJOBS_CACHE"):
            return Path(chosen).expanduser().absolute()
        return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "workerjobs"
    except RuntimeError as error:
        raise InvalidSettingsError(
            "This user has no home folder: set WORKERJOBS_CACHE to the absolute path of a folder for WorkerJobs's files"
        ) from error

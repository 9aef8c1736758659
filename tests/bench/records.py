"""What a run of `make bench` measured so far, kept as it goes: a run that was ended goes on where it was.

One JSON object a line, written through to the disk as soon as it is known; a line that a killed process left half is
not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workerjobs.cache import cache_folder

KEPT_SECONDS = 24 * 3600.0
"""What is older says nothing of the machine as it is now."""


class Records:
    """Results by name; a name says all that its result depends on.

    Args:
        file: Where they are; None: nowhere, for runs that are not worth it.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._values: dict[str, Any] = {}
        if file is not None and file.exists():
            for line in file.read_text().splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if record["moment"] > time.time() - KEPT_SECONDS:
                    self._values[record["name"]] = record["value"]

    def get(self, name: str) -> Any:
        """The result of a name; None where there is none."""
        return self._values.get(name)

    def put(self, name: str, value: Any) -> None:
        """Keep a result that JSON can hold."""
        self._values[name] = value
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a") as file:
                # On a line of its own, also after one that was left half.
                file.write("\n" + json.dumps({"name": name, "value": value, "moment": time.time()}) + "\n")
                file.flush()
                os.fsync(file.fileno())

    def forget(self) -> None:
        """Begin anew."""
        self._values.clear()
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def records_file() -> Path:
    """Where a whole run keeps them."""
    return cache_folder() / "bench" / "run.jsonl"


def digest_of(folders: Iterable[Path]) -> str:
    """Name the state of all sources in some folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            is_source = file.suffix in _SOURCES and _MADE.isdisjoint(file.parts)
            if is_source and file.is_file():
                digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


_SOURCES = frozenset({".py", ".sql", ".mjs", ".go", ".txt", ".json", ".mod", ".sum"})
_MADE = frozenset({"__pycache__", "node_modules"})

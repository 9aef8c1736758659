"""Reading manifests from files, folders and standard input, each document by itself and with its line."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workerjobs.errors import InvalidInputError

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True)
class Document:
    """One manifest and where it stands."""

    place: str
    """``FILE:LINE`` of its first line."""
    content: Any
    """As parsed; None where ``problem`` says why it could not be."""
    problem: str | None = None


class _Loader(yaml.SafeLoader):
    """As kubectl reads YAML: a moment without quotes stays text."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_documents(paths: Sequence[str]) -> list[Document]:
    """Read all documents of files, of folders (their .yaml, .yml and .json files, by name), and of ``-``.

    Raises:
        InvalidInputError: A path does not exist or can't be read.
    """
    documents: list[Document] = []
    for path in paths:
        for name, text in _texts(path):
            documents += _split(name, text)
    return documents


def _texts(path: str) -> Iterator[tuple[str, str]]:
    if path == "-":
        yield "standard input", sys.stdin.read()
        return
    folder = Path(path)
    files = sorted(f for f in folder.iterdir() if f.suffix in SUFFIXES) if folder.is_dir() else [folder]
    if not files:
        raise InvalidInputError(f"{path} holds no {', '.join(SUFFIXES)} files")
    for file in files:
        try:
            yield str(file), file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise InvalidInputError(f"{file} can't be read: {reason}") from None


def _split(name: str, text: str) -> Iterator[Document]:
    """Cut at the lines that separate documents, so that a broken one does not take the others with it."""
    lines = text.splitlines(keepends=True)
    starts = [0, *(number + 1 for number, line in enumerate(lines) if re.match(r"---(\s|$)", line))]
    for start, end in zip(starts, [*(start - 1 for start in starts[1:]), len(lines)], strict=True):
        part = lines[start:end]
        first = next(
            (n for n, line in enumerate(part, start + 1) if line.strip() and not line.lstrip().startswith("#")), 0
        )
        if first:
            yield from _parse(name, first, "".join(part), start)


def _parse(name: str, first: int, text: str, offset: int) -> Iterator[Document]:
    place = f"{name}:{first}"
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506  # _Loader is a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {offset + mark.line + 1}" if mark is not None else ""
        yield Document(place, None, f"it is not YAML{line}: {getattr(error, 'problem', None) or error}")
        return
    except RecursionError:
        yield Document(place, None, "it is nested too deeply")
        return
    if isinstance(content, dict) and content.get("kind") == "List" and isinstance(content.get("items"), list):
        for item in content["items"]:
            yield Document(place, item)
    else:
        yield Document(place, content)

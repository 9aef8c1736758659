"""Names that may have been meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest names that are like one, as the end of a sentence; empty where none is, or where it is known.

    >>> did_you_mean("reprot", ["report", "thumbnail"]), did_you_mean("report", ["report"])
    (' Did you mean report?', '')
    """
    names = sorted(set(known))
    near = [] if name in names else get_close_matches(name, names, 3)
    return f" Did you mean {' or '.join(near)}?" if near else ""

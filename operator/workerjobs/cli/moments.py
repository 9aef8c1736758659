"""Moments on the command line: how long ago, or when."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from workerjobs.domain.parsing import parse_moment
from workerjobs.errors import InvalidInputError

_AGO = re.compile(r"(\d+)([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def read_since(option: str, text: str | None, *, now: datetime) -> datetime | None:
    """Read ``1h`` (that long before now) or an ISO 8601 moment.

    >>> from datetime import UTC
    >>> read_since("--since", "90m", now=datetime(2030, 1, 31, 12, tzinfo=UTC)).isoformat()
    '2030-01-31T10:30:00+00:00'

    Raises:
        InvalidInputError: It is neither.
    """
    if text is None:
        return None
    try:
        if (ago := _AGO.fullmatch(text)) is not None:
            return now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        return parse_moment(text)
    except (ValueError, OverflowError):
        raise InvalidInputError(
            f"{option} is {text!r}: give how long ago (30m, 1h, 7d, 2w) or a moment such as 2030-01-31T08:00:00Z"
        ) from None


def iso(value: datetime | None) -> str | None:
    """Write a moment as all commands do, whatever time zone the database's session is in: ISO 8601 in UTC.

    >>> iso(datetime.fromisoformat("2030-01-31T09:00:00+01:00"))
    '2030-01-31T08:00:00+00:00'
    """
    return None if value is None else value.astimezone(UTC).isoformat()

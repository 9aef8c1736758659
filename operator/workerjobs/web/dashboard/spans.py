"""Lengths of time that pages offer: how far back a chart goes, how far ahead a calendar looks."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum


class Span(StrEnum):
    """A length of time, as URLs and pages name it."""

    QUARTER = "15m"
    HOUR = "1h"
    SIX_HOURS = "6h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"

    @property
    def length(self) -> timedelta:
        """How long it is.

        >>> Span.QUARTER.length, Span.MONTH.length
        (datetime.timedelta(seconds=900), datetime.timedelta(days=30))
        """
        return timedelta(**{_UNITS[self.value[-1]]: int(self.value[:-1])})


_UNITS = {"m": "minutes", "h": "hours", "d": "days"}

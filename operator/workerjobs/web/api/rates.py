"""How often somebody may ask: a bucket of requests for each, filled evenly."""

from __future__ import annotations

from collections import OrderedDict

MAX_CALLERS = 10_000
"""The ones that did not ask for longest are forgotten, beyond that."""
BURST_SECONDS = 2.0
"""A rate's requests of so long may come at once."""


class Rates:
    """Counts requests of callers.

    Args:
        per_second: What each may ask in the long run; 0: any number.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._next: OrderedDict[str, float] = OrderedDict()

    def wait_seconds(self, caller: str, *, now: float, is_counted: bool = True) -> float:
        """Count a request; returns 0, or how long to wait where it is one too many and not counted.

        >>> rates = Rates(1)
        >>> [rates.wait_seconds("ada", now=5.0) for _ in range(3)]
        [0.0, 0.0, 1.0]

        Args:
            caller: Who asks.
            now: In seconds, of a clock that only goes forward.
            is_counted: False only asks.

        Source:
            Generic cell rate algorithm, ITU-T I.371.
        """
        if not self._per_second:
            return 0.0
        interval = 1 / self._per_second
        start = max(self._next.get(caller, now), now)
        wait = start - now - max(BURST_SECONDS - interval, 0)
        if wait > 0 or not is_counted:
            return max(wait, 0.0)
        self._next[caller] = start + interval
        self._next.move_to_end(caller)
        if len(self._next) > MAX_CALLERS:
            self._next.popitem(last=False)
        return 0.0

"""When to look for jobs under limits: most workers have none, and most looks find nothing that could start."""

from __future__ import annotations

from workerjobs.ports.jobs import FIRST_PLACE, LimitedClaim, LimitedPlace

POLL_SECONDS = 30.0
"""A look that does not depend on announcements: an expired lease gives back its permit without one."""
AGAIN_SECONDS = (0.001, 0.1)
"""How soon to look again where other claims were in the way: first, and at most."""


class LimitedLooks:
    """Keeps where the looks are among all keys, and when the next one is due. Moments are seconds of one clock.

    A round of looks goes once over all keys; what is announced meanwhile needs another round.
    """

    def __init__(self) -> None:
        self._is_wanted = True
        self._is_under_way = False
        self._place: LimitedPlace = FIRST_PLACE
        self._at = 0.0
        """When to begin a round without being told."""
        self._again_seconds = AGAIN_SECONDS[0]

    def want(self) -> None:
        """Some may have become free to start."""
        self._is_wanted = True

    def seconds(self, now: float) -> float:
        """How long until the next look; 0: it is due."""
        return 0.0 if self._is_under_way or self._is_wanted else max(0.0, self._at - now)

    def begin(self, now: float) -> LimitedPlace:
        """Begin the look that is due; returns where."""
        if not self._is_under_way:
            self._is_under_way, self._is_wanted = True, False
            self._at = now + POLL_SECONDS
        return self._place

    def end(self, claim: LimitedClaim, now: float) -> None:
        """Take what a look found."""
        self._place = claim.after
        self._is_under_way = claim.after != FIRST_PLACE
        if claim.jobs:
            self.claimed(now)
        if claim.retry_seconds is None:
            return
        if claim.retry_seconds == 0 and not claim.jobs:
            self._at = min(self._at, now + self._again_seconds)
            self._again_seconds = min(2 * self._again_seconds, AGAIN_SECONDS[1])
        else:
            self._at = min(self._at, now + claim.retry_seconds)

    def claimed(self, now: float) -> None:
        """Jobs were claimed, of whatever kind: what came after them may be next."""
        if self._again_seconds > AGAIN_SECONDS[0]:
            self._at = min(self._at, now)
        self._again_seconds = AGAIN_SECONDS[0]

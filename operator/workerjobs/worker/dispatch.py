"""Dispatch: which child gets which claimed job, and how many jobs to claim.

A job that takes time goes to a child that is free, one at a time. Where jobs are tiny, asking the database for each of
them would cost more than running them: then each child gets a frame of jobs that together take some milliseconds. A job
that turns out to be slow does not hold up those behind it: they are recalled and given to others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from workerjobs.worker.children import Children
from workerjobs.worker.process import Child
from workerjobs.worker.running import RunningJob

FRAME_SECONDS = 0.08
"""About how long the jobs take that a child is given at once."""
PLENTY_SECONDS = 0.2
"""The same where the table has more than enough. A claim and a settlement take some 2 ms of processor time, whatever
they bring: so jobs of 20 ms are claimed by the dozen, and not two by two; but only where that leaves others some."""
FRAME_JOBS = 2000
"""A child is given at most so many."""
FRAME_CHARACTERS = 1_000_000
"""Of data, in one frame; a single job may have more."""
RECALL_SECONDS = 0.05
"""Jobs behind one that runs longer are given to others."""
CLAIM_CHARACTERS = 8_000_000
"""About so much data is claimed at once."""
SHARED_DEPTH = 4
"""From so many jobs a child on, a claim waits until it finds places for half of them."""
LEARN_RUNS = 16
"""After so many runs what is expected of others is corrected."""


class Dispatch:
    """Spreads claimed jobs over the children.

    Args:
        children: Who runs them.
        on_begin: Told of a job that its child begins at once.
        on_surplus: Takes jobs that no child can begin soon, to give them back to the table.
    """

    def __init__(
        self,
        children: Children,
        *,
        on_begin: Callable[[RunningJob], None],
        on_surplus: Callable[[list[RunningJob]], None],
    ) -> None:
        self._children = children
        self._on_begin = on_begin
        self._on_surplus = on_surplus
        self._backlog: deque[RunningJob] = deque()
        self._pace: float | None = None
        """Seconds that a run is expected to take."""
        self.preparing = 0
        """Claimed jobs that come here shortly; places are kept for them."""
        self.is_plenty = False
        """The last claim found as many jobs as it wanted."""
        self._new_runs = 0
        self._new_seconds = 0.0
        """Runs that are not in the pace yet."""
        self._data_characters = 0.0
        """Of a job's data, as the largest average of a claim lately."""
        self._has_asked = False
        """More jobs were asked for, and none came since."""
        self._recall_timer: asyncio.TimerHandle | None = None

    @property
    def depth(self) -> int:
        """How many jobs a child is given at once."""
        if self._pace is None or self._pace >= RECALL_SECONDS:
            return 1
        seconds = PLENTY_SECONDS if self.is_plenty else FRAME_SECONDS
        # One more than it runs, at least, as long as that one would not wait long: no child waits for the database.
        return max(2, min(FRAME_JOBS, int(seconds / max(self._pace, 1e-6))))

    def count_wanted(self) -> int:
        """How many jobs to claim now."""
        depth = self.depth
        takers = queued = 0
        is_one_idle = False
        for child in self._children:
            if child.can_take:
                takers += 1
                queued += len(child.queue)
                is_one_idle = is_one_idle or not child.queue
        held = queued + len(self._backlog)
        wanted = takers * depth - held - self.preparing
        if self._data_characters and wanted > takers:
            wanted = max(takers, min(wanted, int(CLAIM_CHARACTERS / self._data_characters)))
        # Not for every place that gets free: what a claim costs is shared by the jobs it finds.
        return wanted if depth < SHARED_DEPTH or is_one_idle or 2 * held <= takers * depth else 0

    def wants_more(self, child: Child) -> bool:
        """Whether it is time to claim again, after runs of a child."""
        if self._has_asked or 2 * len(child.queue) > self.depth:
            return False
        self._has_asked = self.count_wanted() > 0
        return self._has_asked

    def add(self, runs: Sequence[RunningJob]) -> None:
        """Take claimed jobs."""
        self._has_asked = False
        if runs:
            average = sum(len(running.job.data_json) for running in runs) / len(runs)
            self._data_characters = max(average, 0.9 * self._data_characters)
        self._backlog.extend(runs)
        self.assign()

    def assign(self) -> None:
        """Send waiting jobs to children that can take them."""
        if not self._backlog:
            return
        depth = self.depth
        now = asyncio.get_running_loop().time()
        takers = sorted(
            (child for child in self._children if child.can_take and len(child.queue) < depth),
            key=lambda child: len(child.queue),
        )
        for place, child in enumerate(takers):
            # An even share: with fewer jobs than places, all children get some.
            share = -(-len(self._backlog) // (len(takers) - place))
            runs = self._next_frame(min(share, depth - len(child.queue)))
            if not runs:
                break
            child.send(runs, now)
            if child.queue[0] is runs[0]:
                self._on_begin(runs[0])
        if depth > 1 and self._recall_timer is None:
            self._recall_timer = asyncio.get_running_loop().call_later(RECALL_SECONDS / 2, self._watch)

    def ran(self, seconds: Sequence[float]) -> None:
        """Learn how long runs took."""
        self._new_runs += len(seconds)
        self._new_seconds += sum(seconds)
        if self._new_runs >= LEARN_RUNS or self._pace is None or max(seconds) > RECALL_SECONDS:
            self._learn()

    def _learn(self) -> None:
        seconds = self._new_seconds / self._new_runs
        self._new_runs, self._new_seconds = 0, 0.0
        # As slow as the latest runs at once, and faster step by step.
        self._pace = seconds if self._pace is None or seconds > self._pace else (self._pace + seconds) / 2

    def recall(self, child: Child) -> None:
        """Take back what a child has not begun, and put it before what waits; call `Child.hear` before."""
        self._backlog.extendleft(reversed(child.recall()))

    def put_back(self, runs: Sequence[RunningJob]) -> None:
        """Put jobs that were not begun before what waits."""
        self._backlog.extendleft(reversed(runs))
        self.assign()

    def remove(self, running: RunningJob) -> bool:
        """Take a job out of what waits; False where it does not wait here."""
        try:
            self._backlog.remove(running)
        except ValueError:
            return False
        return True

    def take_waiting(self) -> list[RunningJob]:
        """Take everything that was not begun, also from the children."""
        for child in list(self._children):
            child.hear()
            self.recall(child)
        waiting = list(self._backlog)
        self._backlog.clear()
        return waiting

    def close(self) -> None:
        """Stop watching."""
        if self._recall_timer is not None:
            self._recall_timer.cancel()

    def _next_frame(self, count: int) -> list[RunningJob]:
        runs: list[RunningJob] = []
        characters = 0
        while self._backlog and len(runs) < count:
            characters += len(self._backlog[0].job.data_json)
            if runs and characters > FRAME_CHARACTERS:
                break
            runs.append(self._backlog.popleft())
        return runs

    def _watch(self) -> None:
        """Recall jobs that wait behind a slow one, as long as any child has more than one."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        is_slow = False
        for child in list(self._children):
            child.hear()
            if len(child.queue) > 1 and now - child.head_since > RECALL_SECONDS:
                self.recall(child)
                is_slow = True
        if is_slow:
            # Expect no more tiny jobs until runs show again that they are.
            self._pace = max(self._pace or 0.0, RECALL_SECONDS)
            self.assign()
            if surplus := [self._backlog.pop() for _ in range(len(self._backlog))][::-1]:
                self._on_surplus(surplus)
        self._recall_timer = None
        if any(len(child.queue) > 1 for child in self._children) or self._backlog:
            self._recall_timer = loop.call_later(RECALL_SECONDS / 2, self._watch)

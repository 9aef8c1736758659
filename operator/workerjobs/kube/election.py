"""Which of several operators acts: the one that holds a Lease.

As client-go does it (kubernetes/client-go: tools/leaderelection/leaderelection.go): who stands by takes the Lease when
its holder has not renewed it for the Lease's duration, counted on its own clock from when it saw the last change; a
holder renews far more often, and gives up earlier than others may take over. Beyond that, the number of the leadership
(leaseTransitions) is kept in the database, where every write of an operator asks for it: one that was stopped while
another took over can't write any more, whatever it believes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from workerjobs.errors import ClusterError, LeadershipLostError
from workerjobs.kube.conditions import micro_time_text
from workerjobs.ports.cluster import LeaseCluster

log = logging.getLogger(__name__)

LEASE_SECONDS = 8
"""Others take over when the Lease was not renewed for so long."""
RENEW_SECONDS = 5.0
"""A holder that could not renew for so long ends: early enough to be gone when another one begins."""
RETRY_SECONDS = 1.0
"""How often the holder renews, and others look."""


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A Lease, as far as it matters; as it was read, or None values where there is none."""

    holder: str | None
    transitions: int
    version: str | None
    """resourceVersion; None: the Lease does not exist."""


class Move(Enum):
    """What to do about the Lease."""

    RENEW = "renew"
    TAKE = "take"
    WAIT = "wait"


def decide(lease: LeaseState, identity: str, unchanged_seconds: float) -> Move:
    """Decide what to do about the Lease.

    Args:
        lease: What it is now.
        identity: Who asks.
        unchanged_seconds: How long it has been seen as it is, on the asker's clock.
    """
    if lease.holder == identity:
        return Move.RENEW
    if not lease.holder or unchanged_seconds >= LEASE_SECONDS:
        return Move.TAKE
    return Move.WAIT


class Election:
    """Takes part in the election over one Lease.

    Args:
        cluster: The Kubernetes API.
        lease: ``namespace/name``.
        identity: Who this is; no two may be alike.
    """

    def __init__(self, cluster: LeaseCluster, lease: str, identity: str) -> None:
        self.identity = identity
        self.transitions = 0
        """The Lease's leaseTransitions, as last seen."""
        self.leads = asyncio.Event()
        """Set once this one holds the Lease; it holds it until it ends."""
        self._cluster = cluster
        self._namespace, _, self._name = lease.partition("/")
        self._version: str | None = None
        self._changed = time.monotonic()
        self._renewed: float | None = None
        self._said = ""
        self._is_refused = False

    def refused(self) -> None:
        """The database refuses this one, whatever the Lease says."""
        self._is_refused = True

    def count_from(self, transitions: int) -> None:
        """Count this leadership as one after the latest that the database knows.

        A Lease that was deleted and made anew counts from the start; it gets the number with its next renewal.
        """
        self.transitions = max(self.transitions, transitions + 1)

    def check(self) -> None:
        """See that this one still leads; asked before each write to the cluster.

        Raises:
            LeadershipLostError: It does not, as far as it knows.
        """
        if not self.is_leader:
            raise LeadershipLostError("Another operator may lead by now: this one writes nothing any more")

    @property
    def is_leader(self) -> bool:
        """Whether it led a moment ago, and nobody can have taken over since."""
        return self._renewed is not None and time.monotonic() - self._renewed < LEASE_SECONDS

    @property
    def stands_by(self) -> bool:
        """Whether another one was seen to lead."""
        return self._version is not None and self._renewed is None

    async def run(self) -> None:
        """Take part until cancelled; then give the Lease back, so that another one need not wait.

        Raises:
            LeadershipLostError: It led, and could not renew.
        """
        try:
            while True:
                began = time.monotonic()
                try:
                    await self._step(began)
                    self._said = ""
                except LeadershipLostError:
                    raise
                except ClusterError as error:
                    log.log(logging.DEBUG if self._said == str(error) else logging.WARNING, "%s", error)
                    self._said = str(error)
                if self._renewed is not None and time.monotonic() - self._renewed > RENEW_SECONDS:
                    raise LeadershipLostError(
                        f"The Lease {self._namespace}/{self._name} could not be renewed for {RENEW_SECONDS:g} s: this "
                        "operator ends, and another one takes over"
                    )
                if self._is_refused:
                    raise LeadershipLostError("The database knows a later leader: this operator ends")
                await asyncio.sleep(max(0.0, RETRY_SECONDS - (time.monotonic() - began)))
        except asyncio.CancelledError:
            await self._give_back()
            raise

    async def _step(self, began: float) -> None:
        manifest = await self._cluster.find_lease(self._namespace, self._name)
        state = _state(manifest)
        if state.version != self._version:
            self._version, self._changed = state.version, time.monotonic()
        match decide(state, self.identity, time.monotonic() - self._changed):
            case Move.WAIT:
                if self._renewed is not None:
                    raise LeadershipLostError(
                        f"The Lease {self._namespace}/{self._name} was taken over by {state.holder}: this operator ends"
                    )
                if self.transitions != state.transitions:
                    self.transitions = state.transitions
                    log.info("Standing by: %s leads", state.holder)
            case Move.RENEW:
                if await self._write(manifest, state, max(state.transitions, self.transitions)) is not None:
                    self._renewed = began
            case Move.TAKE:
                transitions = state.transitions + 1
                if await self._write(manifest, state, transitions) is not None:
                    self._renewed, self.transitions = began, transitions
                    log.info("Leading, as number %s by the Lease %s/%s", transitions, self._namespace, self._name)
                    self.leads.set()

    async def _write(
        self, manifest: Mapping[str, Any] | None, state: LeaseState, transitions: int, holder: str | None = None
    ) -> Mapping[str, Any] | None:
        now = micro_time_text(datetime.now(UTC))
        before = (manifest or {}).get("spec") or {}
        is_mine = state.holder == self.identity
        return await self._cluster.write_lease(
            self._namespace,
            self._name,
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": (manifest or {}).get("metadata") or {"name": self._name, "namespace": self._namespace},
                "spec": {
                    "holderIdentity": self.identity if holder is None else holder,
                    "leaseDurationSeconds": LEASE_SECONDS,
                    "leaseTransitions": transitions,
                    "acquireTime": before.get("acquireTime", now) if is_mine else now,
                    "renewTime": now,
                },
            },
        )

    async def _give_back(self) -> None:
        if self._renewed is None:
            return
        try:
            manifest = await self._cluster.find_lease(self._namespace, self._name)
            state = _state(manifest)
            if state.holder == self.identity:
                await self._write(manifest, state, state.transitions, holder="")
        except ClusterError as error:
            log.debug("The Lease was not given back, it runs out: %s", error)


def _state(manifest: Mapping[str, Any] | None) -> LeaseState:
    if manifest is None:
        return LeaseState(None, 0, None)
    spec = manifest.get("spec") or {}
    return LeaseState(
        spec.get("holderIdentity") or None,
        int(spec.get("leaseTransitions") or 0),
        manifest["metadata"]["resourceVersion"],
    )

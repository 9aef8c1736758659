"""Kubernetes Events of WorkerPools: what a look at one is worth telling; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workerjobs.kube.conditions import conditions_of
from workerjobs.kube.events import Event
from workerjobs.kube.poolplan import PoolActions, PoolFacts


def pool_events(facts: PoolFacts, actions: PoolActions) -> tuple[Event, ...]:
    """Say what a look did to a pool, and why.

    Args:
        facts: What the look found; with the refusal, where the API server refused what was decided.
        actions: What was decided and done.
    """
    events = []
    before, after = _accepted(facts.pool.status), _accepted(actions.status)
    if after["status"] == "False" and after["reason"] != before.get("reason"):
        events.append(Event("Refused", after["message"], "Scale", is_warning=True))
    elif after["status"] == "True" and before.get("status") == "False":
        events.append(Event("Accepted", after["message"], "Scale"))
    if facts.refusal is not None:
        return tuple(events)
    why = actions.decision.message
    if actions.drain:
        count = len(actions.drain)
        what = "1 pod takes no more jobs" if count == 1 else f"{count} pods take no more jobs"
        events.append(Event("Draining", f"{what}: {why}", "Drain"))
    if actions.apply is not None:
        earlier = 0 if facts.deployment is None else int(facts.deployment["spec"].get("replicas", 1))
        later = int(actions.apply["spec"]["replicas"])
        if earlier != later:
            events.append(Event("Scaled", f"From {earlier} to {later}: {why}", "Scale", series=f"{earlier}-{later}"))
    return tuple(events)


def _accepted(status: Mapping[str, Any]) -> Mapping[str, str]:
    return conditions_of(status).get("Accepted", {})

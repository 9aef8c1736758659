"""Which worker pods ask cluster autoscalers to leave them alone: those that run jobs, while they do; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from workerjobs.kube.podstate import WorkerPod

PROTECTING = {
    # kubernetes/autoscaler: cluster-autoscaler/FAQ.md; Karpenter documentation, "Disruption".
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
BUSY = "quickdapp.xyz/busy"
"""Names the annotations that are ours, so that a pod template's own stay."""
IDLE_SECONDS = 10.0
"""A pod is idle once it has run nothing for so long; one that gets job after job is not written all the time."""
MOST_CHANGES = 20
"""Pods a look: thousands that become busy at once are written bit by bit, as the API server has other work."""


@dataclass(frozen=True, slots=True)
class Change:
    """Annotations to write to a pod; None removes one."""

    pod: WorkerPod
    annotations: Mapping[str, str | None]


def protection_changes(
    pods: Collection[WorkerPod], busy: Collection[str], busy_until: Mapping[str, float], now: float
) -> list[Change]:
    """Decide whose annotations to change.

    Args:
        pods: Those that are there.
        busy: Uids of those that run jobs now.
        busy_until: When others were last seen to run any, by uid, in seconds on the clock of ``now``.
        now: The moment.

    Returns:
        At most `MOST_CHANGES`; those to protect come first.
    """
    protect, release = [], []
    for pod in pods:
        is_marked = BUSY in pod.annotations
        if pod.uid in busy and not is_marked and not pod.is_over:
            # What the template says itself is left as it is, and stays.
            missing = {name: value for name, value in PROTECTING.items() if name not in pod.annotations}
            protect.append(Change(pod, {**missing, BUSY: ",".join(sorted(missing))}))
        elif pod.uid not in busy and is_marked and now - busy_until.get(pod.uid, now) >= IDLE_SECONDS:
            ours = [name for name in pod.annotations[BUSY].split(",") if name in PROTECTING]
            release.append(Change(pod, dict.fromkeys([*ours, BUSY])))
    return [*protect, *release][:MOST_CHANGES]

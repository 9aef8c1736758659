"""Which pods ask autoscalers to leave them alone."""

from __future__ import annotations

from dataclasses import replace

from workerjobs.kube.podstate import WorkerPod
from workerjobs.kube.protection import BUSY, IDLE_SECONDS, MOST_CHANGES, PROTECTING, protection_changes

POD = WorkerPod("u", "shop", "a", "n1", None, "has ended", is_over=False)
MARK = ",".join(sorted(PROTECTING))
MARKED = replace(POD, annotations={**PROTECTING, BUSY: MARK})


def test_pod_that_becomes_busy_is_protected_at_once() -> None:
    (change,) = protection_changes([POD], {"u"}, {}, now=0.0)
    assert change.annotations == {**PROTECTING, BUSY: MARK}
    assert protection_changes([MARKED], {"u"}, {}, now=0.0) == []


def test_idle_pod_is_released_only_after_a_while_so_that_one_with_many_short_jobs_is_not_written_all_the_time() -> None:
    assert protection_changes([MARKED], set(), {"u": 100.0}, now=100.0 + IDLE_SECONDS - 1) == []
    (change,) = protection_changes([MARKED], set(), {"u": 100.0}, now=100.0 + IDLE_SECONDS)
    assert change.annotations == {**dict.fromkeys(PROTECTING), BUSY: None}
    assert protection_changes([POD], set(), {"u": 0.0}, now=1e6) == []


def test_annotations_of_the_pod_template_stay() -> None:
    own = replace(POD, annotations={"karpenter.sh/do-not-disrupt": "true"})
    (busy,) = protection_changes([own], {"u"}, {}, now=0.0)
    assert "karpenter.sh/do-not-disrupt" not in busy.annotations
    marked = replace(own, annotations={**own.annotations, **{k: v for k, v in busy.annotations.items() if v}})
    (idle,) = protection_changes([marked], set(), {"u": 0.0}, now=1e6)
    assert "karpenter.sh/do-not-disrupt" not in idle.annotations
    assert idle.annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] is None


def test_very_many_pods_are_changed_bit_by_bit_those_to_protect_first() -> None:
    idle = [replace(MARKED, uid=f"idle{number}") for number in range(MOST_CHANGES)]
    busy = [replace(POD, uid=f"busy{number}") for number in range(MOST_CHANGES - 1)]
    known = {pod.uid: 0.0 for pod in idle}
    changes = protection_changes([*idle, *busy], {pod.uid for pod in busy}, known, now=1e6)
    assert [change.pod.uid[:4] for change in changes] == ["busy"] * (MOST_CHANGES - 1) + ["idle"]

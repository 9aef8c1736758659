"""How many worker pods "auto" means, and which of them go: tables of cases, and what holds for all of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workerjobs.domain.scaling import (
    STEP,
    Backlog,
    Bounds,
    Demand,
    PodLoad,
    Sample,
    ScalingDecision,
    ScalingPolicy,
    bounded,
    desired_replicas,
    jobs_target,
    measured,
    plan_drain,
    remembered,
)

NOW = datetime(2030, 1, 31, 8, tzinfo=UTC)
POLICY = ScalingPolicy(bounds=Bounds(0, 100))


def backlog(due: int = 0, running: int = 0, mean: float | None = 1.0, *, soon: int = 0) -> Backlog:
    return Backlog((Demand("report", due=due, due_soon=soon, running=running, mean_seconds=mean),))


def ago(seconds: float, target: int, replicas: int | None = None) -> Sample:
    return Sample(NOW - timedelta(seconds=seconds), target, target if replicas is None else replicas)


# --- what the jobs ask for

TARGETS: list[tuple[str, Backlog, dict[str, Any], int, str]] = [
    ("no jobs", Backlog(), {}, 0, "NoJobs"),
    ("one job", backlog(1), {}, 1, "Backlog"),
    ("one job that takes nothing", backlog(1, mean=0.0), {}, 1, "Backlog"),
    ("work for one child within 30 s", backlog(30), {}, 1, "Backlog"),
    ("work for two", backlog(31), {}, 2, "Backlog"),
    ("never more children than jobs", backlog(3, mean=3600.0), {}, 3, "Backlog"),
    ("never fewer than jobs that run", backlog(0, running=7, mean=0.1), {}, 7, "Backlog"),
    ("a job that has not run yet counts as one second", backlog(60, mean=None), {}, 2, "Backlog"),
    ("slots", backlog(300), {"slots": 4}, 3, "Backlog"),
    ("a shorter time", backlog(30), {"target": timedelta(seconds=10)}, 3, "Backlog"),
    ("soon", backlog(soon=1), {}, 1, "DueSoon"),
    ("soon, and much of it", backlog(soon=90), {}, 3, "DueSoon"),
    ("two types", Backlog((Demand("a", 10, mean_seconds=6), Demand("b", 30, mean_seconds=1))), {}, 3, "Backlog"),
    ("very many", backlog(10_000, mean=3600.0), {}, 1000, "Backlog"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("jobs", "policy", "pods", "reason"), [case[1:] for case in TARGETS], ids=[case[0] for case in TARGETS]
)
def test_pods_that_jobs_ask_for(jobs: Backlog, policy: dict[str, Any], pods: int, reason: str) -> None:
    decision = jobs_target(jobs, ScalingPolicy(**policy))
    assert (decision.replicas, decision.reason) == (pods, reason)


def test_message_says_how_it_was_counted() -> None:
    decision = jobs_target(backlog(100, running=4, mean=2.5, soon=1), POLICY)
    assert decision.message == "100 jobs due, 1 soon, 4 running: about 258 s of work, for 9 children within 30 s"
    assert jobs_target(backlog(1), POLICY).message == "1 job due, 0 running: about 1 s of work, for 1 child within 30 s"


# --- decisions over time

DECISIONS: list[tuple[str, Backlog, int, list[Sample], dict[str, Any], int, str]] = [
    ("nothing, and nothing there", Backlog(), 0, [], {}, 0, "NoJobs"),
    ("from nothing at once", backlog(1), 0, [], {}, 1, "Backlog"),
    ("growing is limited from nothing", backlog(3000), 0, [], {}, 4, "StepLimited"),
    ("growing doubles", backlog(3000), 10, [], {}, 20, "StepLimited"),
    ("and not twice in one step", backlog(3000), 20, [ago(5, 100, 10)], {}, 20, "StepLimited"),
    ("but in the next", backlog(3000), 20, [ago(16, 100, 10), ago(14, 100, 20)], {}, 40, "StepLimited"),
    ("a wider step", backlog(3000), 0, [], {"max_step_up": 50}, 50, "StepLimited"),
    ("no step reaches beyond what is wanted", backlog(90), 1, [], {}, 3, "Backlog"),
    ("after a restart nothing shrinks", Backlog(), 5, [], {}, 5, "ScaleDownDelayed"),
    ("a lull", Backlog(), 5, [ago(30, 5)], {}, 5, "ScaleDownDelayed"),
    ("a lull in which fewer were wanted", Backlog(), 5, [ago(61, 5), ago(30, 2, 5)], {}, 2, "ScaleDownDelayed"),
    ("after the window", Backlog(), 5, [ago(61, 5), ago(59, 0, 5), ago(1, 0, 5)], {}, 0, "NoJobs"),
    ("no window", Backlog(), 5, [ago(1, 5)], {"scale_down_window": timedelta(0)}, 0, "NoJobs"),
    ("a high target that was never had", Backlog(), 5, [ago(1, 90, 5)], {}, 5, "ScaleDownDelayed"),
    ("shrinking is limited where asked", Backlog(), 9, [ago(50, 0, 9)], {"max_step_down": 2}, 7, "StepLimited"),
    ("and not twice in one step", Backlog(), 7, [ago(5, 0, 9)], {"max_step_down": 2}, 7, "StepLimited"),
    ("minWorkers", Backlog(), 2, [], {"bounds": Bounds(2, 9)}, 2, "ScaleDownDelayed"),
    ("minWorkers of an empty pool", Backlog(), 0, [], {"bounds": Bounds(2, 9)}, 2, "AtMinimum"),
    ("maxWorkers", backlog(3000), 9, [], {"bounds": Bounds(0, 9)}, 9, "AtMaximum"),
    ("maxWorkers was lowered", backlog(3000), 9, [], {"bounds": Bounds(0, 3)}, 3, "AtMaximum"),
    ("minWorkers wins over the step", Backlog(), 0, [], {"bounds": Bounds(20, 30)}, 20, "AtMinimum"),
]


@pytest.mark.parametrize(
    ("jobs", "replicas", "earlier", "policy", "pods", "reason"),
    [case[1:] for case in DECISIONS],
    ids=[case[0] for case in DECISIONS],
)
def test_decision(
    jobs: Backlog, replicas: int, earlier: list[Sample], policy: dict[str, Any], pods: int, reason: str
) -> None:
    decision = desired_replicas(jobs, replicas, earlier, ScalingPolicy(**{"bounds": Bounds(0, 100), **policy}), now=NOW)
    assert (decision.replicas, decision.reason) == (pods, reason)


def test_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="now has no time zone"):
        desired_replicas(Backlog(), 0, [], POLICY, now=NOW.replace(tzinfo=None))


def test_every_wish_that_was_changed_stands_in_the_message() -> None:
    policy = ScalingPolicy(bounds=Bounds(0, 3))
    decision = desired_replicas(backlog(300), 0, [], policy, now=NOW)
    assert decision == ScalingDecision(
        3,
        "AtMaximum",
        "300 jobs due, 0 running: about 300 s of work, for 10 children within 30 s; 10 are wanted, 4 in this step; "
        "at most 3 are made (maxWorkers)",
    )


def test_what_was_measured_before_fills_in_what_was_not_of_late() -> None:
    demands = (Demand("a", due=1), Demand("b", due=1, mean_seconds=2.0), Demand("c", due=1))
    assert [each.mean_seconds for each in measured(demands, {"a": 5.0, "b": 9.0})] == [5.0, 2.0, None]


def test_samples_are_kept_as_long_as_a_decision_needs_them() -> None:
    kept = remembered([ago(61, 1), ago(59, 2)], Sample(NOW, 3, 3), POLICY)
    assert [each.target for each in kept] == [2, 3]
    kept = remembered([ago(16, 1), ago(14, 2)], Sample(NOW, 3, 3), ScalingPolicy(scale_down_window=timedelta(0)))
    assert [each.target for each in kept] == [2, 3]


# --- what holds for all decisions

COUNTS = st.integers(0, 5000)
DEMANDS = st.builds(
    Demand,
    type=st.sampled_from("abc"),
    due=COUNTS,
    due_soon=COUNTS,
    running=st.integers(0, 500),
    mean_seconds=st.none() | st.floats(0, 1e5),
)
BACKLOGS = st.lists(DEMANDS, max_size=3, unique_by=lambda each: each.type).map(lambda found: Backlog(tuple(found)))
BOUNDS = st.tuples(st.integers(0, 50), st.integers(0, 500)).map(lambda pair: Bounds(pair[0], pair[0] + pair[1]))
POLICIES = st.builds(
    ScalingPolicy,
    bounds=BOUNDS,
    slots=st.integers(1, 16),
    target=st.integers(1, 3600).map(lambda seconds: timedelta(seconds=seconds)),
    scale_down_window=st.integers(0, 600).map(lambda seconds: timedelta(seconds=seconds)),
    max_step_up=st.integers(1, 100),
    max_step_down=st.none() | st.integers(1, 100),
)
SAMPLES = st.lists(
    st.tuples(st.floats(0.1, 1000), st.integers(0, 1000), st.integers(0, 1000)).map(lambda each: ago(*each)), max_size=6
).map(lambda found: sorted(found, key=lambda each: each.moment))
REPLICAS = st.integers(0, 1000)


@given(BACKLOGS, REPLICAS, SAMPLES, POLICIES)
def test_decision_stays_within_its_bounds(
    jobs: Backlog, replicas: int, earlier: list[Sample], policy: ScalingPolicy
) -> None:
    decision = desired_replicas(jobs, replicas, earlier, policy, now=NOW)
    assert policy.bounds.minimum <= decision.replicas <= policy.bounds.maximum
    assert decision.reason
    assert decision.message


@given(BACKLOGS, REPLICAS, SAMPLES, POLICIES)
def test_growing_is_within_the_step_or_asked_for_by_the_minimum(
    jobs: Backlog, replicas: int, earlier: list[Sample], policy: ScalingPolicy
) -> None:
    decision = desired_replicas(jobs, replicas, earlier, policy, now=NOW)
    lowest = min([replicas, *(each.replicas for each in earlier if each.moment > NOW - STEP)])
    most = max(replicas, lowest + max(policy.max_step_up, lowest), policy.bounds.minimum)
    assert decision.replicas <= most


@given(BACKLOGS, REPLICAS, SAMPLES, POLICIES)
def test_pool_never_grows_beyond_what_its_jobs_ask_for(
    jobs: Backlog, replicas: int, earlier: list[Sample], policy: ScalingPolicy
) -> None:
    decision = desired_replicas(jobs, replicas, earlier, policy, now=NOW)
    assert decision.replicas <= max(replicas, jobs_target(jobs, policy).replicas, policy.bounds.minimum)


@given(BACKLOGS, REPLICAS, SAMPLES, POLICIES)
def test_jobs_that_run_keep_their_pods(
    jobs: Backlog, replicas: int, earlier: list[Sample], policy: ScalingPolicy
) -> None:
    decision = desired_replicas(jobs, replicas, earlier, policy, now=NOW)
    assert decision.replicas >= min(replicas, policy.bounds.maximum, math.ceil(jobs.running / policy.slots))


@given(BACKLOGS, POLICIES, st.integers(1, 5000))
def test_more_waiting_jobs_never_ask_for_fewer_pods(jobs: Backlog, policy: ScalingPolicy, more: int) -> None:
    grown = Backlog((*jobs.demands, Demand("more", due=more, mean_seconds=1.0)))
    assert jobs_target(grown, policy).replicas >= jobs_target(jobs, policy).replicas


@given(BACKLOGS, POLICIES)
def test_jobs_are_the_only_thing_that_asks_for_pods(jobs: Backlog, policy: ScalingPolicy) -> None:
    target = jobs_target(jobs, policy).replicas
    assert (target == 0) == (jobs.due + jobs.due_soon + jobs.running == 0)


@given(BACKLOGS, POLICIES)
def test_steady_jobs_lead_to_a_number_that_stays(jobs: Backlog, policy: ScalingPolicy) -> None:
    earlier: tuple[Sample, ...] = ()
    moment, replicas = NOW, 0
    seen = []
    for _ in range(40):
        decision = desired_replicas(jobs, replicas, earlier, policy, now=moment)
        earlier = remembered(earlier, Sample(moment, jobs_target(jobs, policy).replicas, replicas), policy)
        replicas = decision.replicas
        seen.append(replicas)
        moment += STEP + timedelta(seconds=1)
    assert seen == sorted(seen)
    if policy.max_step_up >= 25:
        assert seen[-1] == bounded(jobs_target(jobs, policy), policy.bounds).replicas


# --- which pods go


def load(name: str, running: int = 0, remaining: float = 0.0, **more: Any) -> PodLoad:
    return PodLoad(name, owner=f"{name}/boot", running=running, remaining_seconds=remaining, **more)


def marked(name: str, running: int = 0, remaining: float = 0.0, **more: Any) -> PodLoad:
    """One that takes no more jobs, and has said so: it may run some yet."""
    return load(name, running, remaining, is_marked=True, is_drained=True, **more)


def pending(name: str) -> PodLoad:
    return PodLoad(name, is_ready=False)


IDLE, SHORT, LONG = load("idle"), load("short", 1, 2.0), load("long", 1, 90.0)

# pods, replicas, desired -> replicas, drain, undrain, remove
PLANS: list[tuple[str, list[PodLoad], int, int, int, set[str], set[str], set[str]]] = [
    ("as many as wanted", [IDLE, SHORT], 2, 2, 2, set(), set(), set()),
    ("more are wanted", [IDLE], 1, 3, 3, set(), set(), set()),
    ("idle first", [LONG, SHORT, IDLE], 3, 2, 3, {"idle"}, set(), set()),
    ("then the one that ends soonest", [LONG, SHORT, IDLE], 3, 1, 3, {"idle", "short"}, set(), set()),
    ("all of them", [LONG, SHORT, IDLE], 3, 0, 3, {"idle", "short", "long"}, set(), set()),
    ("fewer jobs of one length", [load("two", 2, 5.0), load("one", 1, 5.0)], 2, 1, 2, {"one"}, set(), set()),
    ("the drained one goes", [LONG, SHORT, marked("idle")], 3, 2, 2, set(), set(), {"idle"}),
    ("only as many as are drained", [LONG, marked("short", 1, 2.0), marked("idle")], 3, 1, 2, set(), set(), {"idle"}),
    ("nothing while all marked ones are busy", [LONG, marked("short", 1, 2.0)], 2, 1, 2, set(), set(), set()),
    (
        "not before it said that it takes no more",
        [LONG, load("idle", is_marked=True, is_drained=False)], 2, 1, 2, set(), set(), set(),
    ),
    ("the one chosen before stays chosen", [IDLE, marked("short", 1, 2.0)], 2, 1, 2, set(), set(), set()),
    ("one more to choose", [IDLE, LONG, marked("short", 1, 2.0)], 3, 1, 3, {"idle"}, set(), set()),
    ("the demand is back", [LONG, marked("short", 1, 2.0)], 2, 2, 2, set(), {"short"}, set()),
    ("and more than that", [LONG, marked("idle")], 2, 5, 5, set(), {"idle"}, set()),
    ("a part of it", [marked("a", 1, 50.0), marked("b", 1, 5.0), LONG], 3, 2, 3, set(), {"a"}, set()),
    ("a pod that never began goes first", [IDLE, pending("new")], 2, 1, 1, set(), set(), {"new"}),
    ("pods that never began may go for each other", [pending("a"), pending("b")], 2, 1, 1, set(), set(), {"a"}),
    ("no pod yet", [IDLE], 3, 1, 1, set(), set(), set()),
    ("no pod yet, and fewer wanted than there are", [IDLE, SHORT], 3, 1, 2, {"idle"}, set(), set()),
    (
        "another one that is not ready would go in its place",
        [marked("idle"), load("sick", 1, 9.0, is_ready=False)], 2, 1, 2, set(), set(), set(),
    ),
    ("one that leaves already does not count", [IDLE, load("gone", is_leaving=True)], 1, 1, 1, set(), set(), set()),
    ("given up before, and not gone yet", [IDLE, LONG, marked("short")], 2, 2, 2, set(), set(), set()),
    ("given up before, and one more to go", [IDLE, LONG, marked("short")], 2, 1, 2, {"idle"}, set(), set()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pods", "replicas", "desired", "after", "drain", "undrain", "remove"),
    [case[1:] for case in PLANS],
    ids=[case[0] for case in PLANS],
)
def test_plan_to_shrink(
    pods: list[PodLoad], replicas: int, desired: int, after: int, drain: set[str], undrain: set[str], remove: set[str]
) -> None:
    plan = plan_drain(pods, replicas=replicas, desired=desired, is_rolling=False)
    assert (plan.replicas, set(plan.drain), set(plan.undrain), set(plan.remove)) == (after, drain, undrain, remove)
    assert bool(plan.message) == (plan.replicas > desired)


def test_nothing_shrinks_while_the_pods_are_replaced() -> None:
    plan = plan_drain([LONG, marked("idle")], replicas=2, desired=1, is_rolling=True)
    assert (plan.replicas, plan.remove) == (2, ())
    assert "replaced" in plan.message
    # But growing does not wait, and where no pod has come to life there is nothing to lose.
    assert plan_drain([pending("a"), pending("b")], replicas=2, desired=0, is_rolling=True).replicas == 0
    assert plan_drain([LONG], replicas=1, desired=4, is_rolling=True).replicas == 4


PODS = st.lists(
    st.builds(
        PodLoad,
        name=st.integers(0, 99).map(str),
        owner=st.none() | st.just("owner"),
        is_ready=st.booleans(),
        is_leaving=st.booleans(),
        is_marked=st.booleans(),
        is_drained=st.booleans(),
        running=st.integers(0, 3),
        remaining_seconds=st.floats(0, 100),
    ),
    max_size=8,
    unique_by=lambda pod: pod.name,
)


@given(PODS, st.integers(0, 10), st.integers(0, 10), st.booleans())
def test_only_pods_without_jobs_are_given_up(
    pods: list[PodLoad], replicas: int, desired: int, is_rolling: bool
) -> None:
    plan = plan_drain(pods, replicas=replicas, desired=desired, is_rolling=is_rolling)
    known = {pod.name: pod for pod in pods}
    assert min(replicas, desired) <= plan.replicas <= max(replicas, desired)
    assert all(known[name].is_finished for name in plan.remove)
    staying = sum(not pod.is_leaving for pod in pods)
    # What Kubernetes has to take away is what was given up here, never more.
    assert replicas - plan.replicas <= len(plan.remove) + max(0, replicas - staying)
    assert not set(plan.drain) & set(plan.undrain)
    assert not {pod.name for pod in pods if pod.is_leaving} & {*plan.drain, *plan.undrain, *plan.remove}
    if plan.replicas < replicas and is_rolling:
        assert all(pod.is_finished for pod in pods if not pod.is_leaving and pod.owner is not None)

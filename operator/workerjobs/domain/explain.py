"""Why the jobs of a pool run, or wait: sentences from what is known of the pool. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from workerjobs.domain.words import span


class Topic(StrEnum):
    """What a sentence is about."""

    WORKERS = "Workers"
    JOBS = "Jobs"
    WAITING = "Waiting"
    """Why jobs that are due do not start."""


@dataclass(frozen=True, slots=True)
class WaitingJobs:
    """The unfinished jobs of a type in a pool."""

    type: str
    waiting: int
    """Due and not started."""
    later: int
    running: int
    oldest_seconds: float | None
    """For how long the oldest of those that wait has been due."""
    is_paused: bool = False
    is_known: bool = True
    """A live worker of the pool knows the type."""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What is known of a pool, all of one moment."""

    name: str
    workers: int = 0
    draining: int = 0
    """Of the workers, those that take no more jobs."""
    children: int = 0
    """Jobs that workers which are not draining run at once, at most."""
    drain_reasons: Mapping[str, int] = field(default_factory=dict)
    jobs: Sequence[WaitingJobs] = ()
    is_paused: bool = False
    pause_reason: str | None = None


def explain(facts: PoolFacts) -> list[tuple[Topic, str]]:
    """Say how a pool is, and why its jobs wait, if they do; the most important reason first."""
    running = sum(each.running for each in facts.jobs)
    waiting = sum(each.waiting for each in facts.jobs)
    later = sum(each.later for each in facts.jobs)
    told = [(Topic.WORKERS, _workers(facts, running))]
    oldest = max((each.oldest_seconds or 0 for each in facts.jobs), default=0)
    since = f", the oldest for {span(timedelta(seconds=oldest))}" if waiting else ""
    told.append((Topic.JOBS, f"{running} run, {waiting} wait{since}, {later} are due later"))
    if waiting:
        told += [(Topic.WAITING, reason) for reason in _reasons(facts, running)]
    return told


def _workers(facts: PoolFacts, running: int) -> str:
    if not facts.workers:
        return "No worker of the pool lives"
    text = f"{_count(facts.workers, 'worker')} can run {_count(facts.children, 'job')} at once, {running} run"
    if facts.draining:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(facts.drain_reasons.items()))
        text += f"; {facts.draining} take no more jobs{f' ({why})' if why else ''}"
    return text


def _reasons(facts: PoolFacts, running: int) -> list[str]:
    if facts.is_paused:
        return [f"The pool is paused{_because(facts.pause_reason)}: workerjobs resume pool {facts.name}"]
    if not facts.workers:
        return ["No worker lives: start one (workerjobs worker, with WORKER_POOL), or scale the pool up"]
    reasons = []
    startable = 0
    for each in facts.jobs:
        if each.is_paused and each.waiting:
            reasons.append(
                f"{_count(each.waiting, 'job')} of the paused type {each.type}: workerjobs resume type {each.type}"
            )
        elif not each.is_known and each.waiting:
            reasons.append(f"{_count(each.waiting, 'job')} of the type {each.type}, which no live worker of it knows")
        else:
            startable += each.waiting
    if startable and running >= facts.children:
        reasons.append(f"{_count(startable, 'job')} for a free child: all {facts.children} are busy")
    elif startable:
        reasons.append(
            f"{_count(startable, 'job')} although children are free: for the moment, or under a limit "
            "(workerjobs limit list)"
        )
    return reasons


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

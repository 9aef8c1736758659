"""Conditions of a resource's status, as Kubernetes has them: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def condition(name: str, status: bool, reason: str, message: str) -> dict[str, str]:
    """Build a condition; `timed` adds its moment."""
    return {"type": name, "status": str(status), "reason": reason, "message": message}


def timed(found: Sequence[dict[str, str]], previous: Mapping[str, Any], now: datetime) -> list[dict[str, str]]:
    """Add to each condition when its status last changed."""
    earlier = conditions_of(previous)
    timed = []
    for each in found:
        before = earlier.get(each["type"])
        is_same = before is not None and before["status"] == each["status"]
        timed.append(
            each | {"lastTransitionTime": before["lastTransitionTime"] if before and is_same else moment_text(now)}
        )
    return timed


def conditions_of(status: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """A status's conditions by their types."""
    return {each["type"]: each for each in status.get("conditions", ())}


def moment_text(moment: datetime) -> str:
    """Write a moment as Kubernetes does, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time_text(moment: datetime) -> str:
    """Write a moment as Kubernetes' MicroTime, of Leases and Events."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

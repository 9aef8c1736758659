"""WorkerJobs that can't be right, against a running operator: each is refused with a sentence, and none disturbs it."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from tests.support.malformed import REFUSED, REFUSED_BY_OPERATOR
from tests.support.operators import Operators, WorkerJobs, eventually, workerjob
from tests.support.table import count_rows

pytestmark = pytest.mark.cluster

TIME_TO_REFUSE = timedelta(seconds=2)
ROUNDS = 4


def create(jobs: WorkerJobs, *manifests: dict[str, Any]) -> str:
    """Create WorkerJobs, in one call; returns what kubectl says on errors."""
    documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    return jobs.kubectl("create", "--validate=false", "-f", "-", input=documents, check=False).stderr


def accepted(resource: dict[str, Any]) -> tuple[str, str]:
    """What the condition Accepted says, with its message; empty while there is none."""
    conditions = resource.get("status", {}).get("conditions", [])
    return next(((each["status"], each["message"]) for each in conditions if each["type"] == "Accepted"), ("", ""))


def refused_after(resource: dict[str, Any]) -> timedelta:
    """How long its status took to be written, by the API server's clock, which counts whole seconds."""
    metadata = resource["metadata"]
    (written,) = [each["time"] for each in metadata["managedFields"] if each.get("subresource") == "status"]
    return datetime.fromisoformat(written) - datetime.fromisoformat(metadata["creationTimestamp"])


def told(jobs: WorkerJobs, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """The resources of these names, once all of them say whether they were accepted."""
    made = {name: each for each in jobs.all() if (name := each["metadata"]["name"]) in names}
    return made if len(made) == len(names) and all(accepted(each)[0] for each in made.values()) else {}


def test_there_are_many_of_them() -> None:
    assert len(REFUSED) + len(REFUSED_BY_OPERATOR) >= 60


def test_each_is_refused_at_apply_or_by_the_operator_within_two_seconds(
    operators: Operators, jobs: WorkerJobs, database_url: str
) -> None:
    operator = operators.start()
    jobs.apply(workerjob("before"))
    jobs.wait("before", "Pending")

    create(jobs, *(workerjob(f"refused-{number}", spec) for number, (_, spec, _) in enumerate(REFUSED)))
    assert set(jobs.states()) == {"before"}

    # On a machine that is busy otherwise a round may take longer; an operator that is too slow is so in each.
    for attempt in range(ROUNDS):
        names = {f"job-{attempt}-{number}": case for number, case in enumerate(REFUSED_BY_OPERATOR)}
        assert create(jobs, *(workerjob(name, spec) for name, (_, spec, _) in names.items())) == ""
        made = eventually(partial(told, jobs, names))
        if (took := max(map(refused_after, made.values()))) <= TIME_TO_REFUSE:
            break
    assert took <= TIME_TO_REFUSE
    found = {name: accepted(each) for name, each in made.items()}
    wrong = {
        names[name][0]: (status, message)
        for name, (status, message) in found.items()
        if status != "False" or names[name][2] not in message or not message.startswith("spec.")
    }
    assert wrong == {}
    assert all(jobs.status(name)["state"] == "Invalid" for name in names)
    assert count_rows(database_url) == 1
    # It works on, and says nothing of what others did wrong.
    jobs.apply(workerjob("after"))
    jobs.wait("after", "Pending")
    operator.stop()
    assert operator.complaints() == []
    assert "Traceback" not in operator.log.read_text()
    assert not any("exception" in each for each in operator.said())

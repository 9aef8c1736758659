"""Pod templates are merged as kubectl does it."""

from __future__ import annotations

from typing import Any

import pytest

from workerjobs.kube.merge import merge

CASES: list[tuple[str, Any, Any, Any]] = [
    ("a new field", {"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
    ("a field in its place", {"a": 1}, {"a": 2}, {"a": 2}),
    ("null removes", {"a": 1, "b": 2}, {"a": None}, {"b": 2}),
    ("objects are merged", {"a": {"x": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
    (
        "containers by name",
        {"containers": [{"name": "worker", "image": "a", "args": ["worker"]}]},
        {"containers": [{"name": "sidecar", "image": "s"}, {"name": "worker", "image": "b"}]},
        {"containers": [{"name": "worker", "image": "b", "args": ["worker"]}, {"name": "sidecar", "image": "s"}]},
    ),
    ("arguments are replaced", {"args": ["a", "b"]}, {"args": ["c"]}, {"args": ["c"]}),
    ("others too", {"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "b"}]}, {"tolerations": [{"key": "b"}]}),
    (
        "variables by name, of another source",
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]},
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}, {"name": "B", "value": "2"}]},
    ),
    (
        "a volume of another source",
        {"volumes": [{"name": "tmp", "emptyDir": {}}]},
        {"volumes": [{"name": "tmp", "hostPath": {"path": "/fast"}}]},
        {"volumes": [{"name": "tmp", "hostPath": {"path": "/fast"}}]},
    ),
    (
        "mounts by path",
        {"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]},
        {"volumeMounts": [{"name": "fast", "mountPath": "/tmp"}]},
        {"volumeMounts": [{"name": "fast", "mountPath": "/tmp"}]},
    ),
    (
        "an item is removed",
        {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
        {"env": [{"name": "A", "$patch": "delete"}]},
        {"env": [{"name": "B", "value": "2"}]},
    ),
    (
        "an object is replaced",
        {"resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1"}}},
        {"resources": {"$patch": "replace", "requests": {"cpu": "2"}}},
        {"resources": {"requests": {"cpu": "2"}}},
    ),
    (
        "a list is replaced",
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"$patch": "replace"}, {"name": "B", "value": "2"}]},
        {"env": [{"name": "B", "value": "2"}]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("base", "patch", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_patch_is_merged(base: Any, patch: Any, expected: Any) -> None:
    before = repr((base, patch))
    assert merge(base, patch) == expected
    assert repr((base, patch)) == before

"""Merging a patch into a pod template as Kubernetes' strategic merge does: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists of a pod template whose items are merged by a key; all others are replaced.

Source:
    kubernetes/kubernetes: staging/src/k8s.io/api/core/v1/types.go, the tags ``patchMergeKey``.
"""
_DIRECTIVE = "$patch"
# Of these objects one field excludes the others, so that one of another kind takes the place of what was there.
_SOURCES = ("valueFrom", "value")


def merge(base: Any, patch: Any, name: str = "") -> Any:
    """Merge a patch into an object; neither is changed.

    Args:
        base: What is there.
        patch: Objects are merged, null removes a field, lists are merged by their items' keys where Kubernetes has one
            for them and replaced otherwise. ``$patch: delete`` removes an item, ``$patch: replace`` ends the merging.
        name: The field that both are the value of.

    >>> merge({"a": 1, "env": [{"name": "A", "value": "1"}]}, {"a": None, "env": [{"name": "B", "value": "2"}]})
    {'env': [{'name': 'A', 'value': '1'}, {'name': 'B', 'value': '2'}]}
    """
    if isinstance(patch, Mapping):
        return _merge_objects(base if isinstance(base, Mapping) else {}, patch, name)
    if isinstance(patch, list) and isinstance(base, list) and (key := _KEYS.get(name)) is not None:
        return _merge_lists(base, patch, key, name)
    return patch


def _merge_objects(base: Mapping[str, Any], patch: Mapping[str, Any], name: str) -> dict[str, Any]:
    fields = {key: value for key, value in patch.items() if key != _DIRECTIVE}
    if patch.get(_DIRECTIVE) == "replace":
        return fields
    merged = dict(base)
    if name == "volumes" or (name == "env" and any(source in fields for source in _SOURCES)):
        # Another source of a volume or variable, not one more.
        kept = {"name", *fields}
        merged = {key: value for key, value in merged.items() if key in kept}
    for key, value in fields.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value, key)
    return merged


def _merge_lists(base: Sequence[Any], patch: Sequence[Any], key: str, name: str) -> list[Any]:
    merged = list(base)
    for item in patch:
        if not isinstance(item, Mapping):
            merged.append(item)
            continue
        if item.get(_DIRECTIVE) == "replace" and key not in item:
            # The whole list: what comes with the directive alone empties it.
            merged = []
            continue
        at = next(
            (i for i, each in enumerate(merged) if isinstance(each, Mapping) and each.get(key) == item.get(key)), None
        )
        if item.get(_DIRECTIVE) == "delete":
            if at is not None:
                del merged[at]
        elif at is None:
            merged.append(_merge_objects({}, item, name))
        else:
            merged[at] = _merge_objects(merged[at], item, name)
    return merged

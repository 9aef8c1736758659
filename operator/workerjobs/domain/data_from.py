"""Keys of Secrets and ConfigMaps that become fields of a job's data: what a reference looks like, and what it gives.

The table holds the references alone. A worker resolves them when it runs the job, in the job's own namespace.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from workerjobs.domain.job_checks import encode_data
from workerjobs.domain.parsing import unknown_name
from workerjobs.errors import InvalidInputError

ALLOW_LABEL = "quickdapp.xyz/allow-jobs"
"""A Secret is given to jobs only where this label is "true"."""
MAX_REFERENCES = 50

# Kubernetes documentation, "Object Names and IDs"; keys as in k8s.io/apimachinery, validation.IsConfigMapKey.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")


class SourceKind(StrEnum):
    """What holds a value."""

    SECRET = "Secret"  # noqa: S105  # a kind
    CONFIG_MAP = "ConfigMap"


_FIELDS = {"secretKeyRef": SourceKind.SECRET, "configMapKeyRef": SourceKind.CONFIG_MAP}


@dataclass(frozen=True, slots=True)
class Source:
    """An object that values are read from."""

    kind: SourceKind
    name: str


@dataclass(frozen=True, slots=True)
class Reference:
    """A field of the job's data, and where its value is."""

    field: str
    source: Source
    key: str
    is_optional: bool
    """Where there is no such object or key the field is left out."""


def parse_references(given: object) -> list[Reference]:
    """Read ``dataFrom``.

    Raises:
        InvalidInputError: With every problem, each beginning with the path in it, such as ``[0].name``.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise InvalidInputError(" is no list: give one of {name, secretKeyRef} and {name, configMapKeyRef}")
    if len(given) > MAX_REFERENCES:
        raise InvalidInputError(f" has {len(given)} entries: at most {MAX_REFERENCES} are accepted")
    problems: list[str] = []
    references = [
        reference for index, each in enumerate(given) if (reference := _reference(f"[{index}]", each, problems))
    ]
    names = [reference.field for reference in references]
    problems += [f" gives {name} twice" for name in sorted({name for name in names if names.count(name) > 1})]
    if problems:
        raise InvalidInputError(problems)
    return references


def secret_fields(data_from_json: str) -> list[str]:
    """Name the fields whose values come from Secrets.

    >>> secret_fields('[{"name": "key", "secretKeyRef": {}}, {"name": "title", "configMapKeyRef": {}}]')
    ['key']
    """
    return [each["name"] for each in json.loads(data_from_json) if each.get("secretKeyRef") is not None]


def _reference(path: str, given: object, problems: list[str]) -> Reference | None:
    if not isinstance(given, Mapping):
        problems.append(f"{path} is no object: give name and secretKeyRef or configMapKeyRef")
        return None
    before = len(problems)
    problems += [
        f"{path}.{name}: {unknown_name(name, ('name', *_FIELDS))}" for name in given if name not in ("name", *_FIELDS)
    ]
    field = given.get("name")
    if not isinstance(field, str) or not field.strip() or len(field) > 250 or not field.isprintable():
        problems.append(f"{path}.name is {field!a}: give the name of a field of data")
    kinds = [name for name in _FIELDS if given.get(name) is not None]
    if len(kinds) != 1:
        problems.append(f"{path} has {' and '.join(kinds) or 'no source'}: give one of {' and '.join(_FIELDS)}")
        return None
    (kind,) = kinds
    source = given[kind]
    if not isinstance(source, Mapping):
        problems.append(f"{path}.{kind} is no object: give name and key")
        return None
    accepted = ("name", "key", "optional")
    problems += [f"{path}.{kind}.{name}: {unknown_name(name, accepted)}" for name in source if name not in accepted]
    name, key, optional = source.get("name"), source.get("key"), source.get("optional")
    if not isinstance(name, str) or len(name) > 253 or not _NAME.fullmatch(name):
        problems.append(f"{path}.{kind}.name is {name!a}: give the name of a {_FIELDS[kind]}")
    if not isinstance(key, str) or len(key) > 253 or not _KEY.fullmatch(key):
        problems.append(f"{path}.{kind}.key is {key!a}: give one of its keys")
    if optional not in (None, True, False):
        problems.append(f"{path}.{kind}.optional is {optional!a}: give true or false")
    if len(problems) > before:
        return None
    return Reference(str(field), Source(_FIELDS[kind], str(name)), str(key), bool(optional))


def mismatch(row: Mapping[str, Any], resource: Mapping[str, Any]) -> str | None:
    """Say what keeps a row from being what a WorkerJob asks for; None: nothing.

    Whoever may write to the table must not thereby read Secrets: only what someone declared with kubectl gets values.

    Args:
        row: The row's ``uid``, ``type``, ``userId``, ``data`` and ``dataFrom``.
        resource: The WorkerJob of its namespace and name, as the API server has it.
    """
    metadata, spec = resource["metadata"], resource["spec"]
    name = f"WorkerJob {metadata['namespace']}/{metadata['name']}"
    if metadata["uid"] != row["uid"] or metadata.get("deletionTimestamp"):
        return f"the {name} that it belongs to was deleted"
    wanted = {
        "type": spec.get("type"),
        "userId": spec.get("userId", 0),
        "data": spec.get("data", {}),
        "dataFrom": spec.get("dataFrom"),
    }
    if others := [field for field, value in wanted.items() if row[field] != value]:
        return f"{name} says something else now ({', '.join(others)})"
    return None


def resolved_data(
    data_json: str, references: Sequence[Reference], objects: Mapping[Source, Mapping[str, Any] | None]
) -> str:
    """Put the values into a job's data.

    Args:
        data_json: The row's data.
        references: What to put in.
        objects: The Secrets and ConfigMaps as the API server has them; None for those that do not exist.

    Raises:
        InvalidInputError: With everything that is missing or not allowed; no value is ever part of a sentence.
    """
    data = cast("dict[str, Any]", json.loads(data_json))
    problems: list[str] = []
    for reference in references:
        value = _value(reference, objects[reference.source], problems)
        if value is not None:
            data[reference.field] = value
    if problems:
        raise InvalidInputError(problems)
    try:
        return encode_data(data)
    except InvalidInputError as error:
        raise InvalidInputError(f"with what dataFrom gives, {error}") from None


def _value(reference: Reference, found: Mapping[str, Any] | None, problems: list[str]) -> str | None:
    source = reference.source
    name = f"{source.kind} {source.name}"
    if found is None:
        if not reference.is_optional:
            problems.append(f"there is no {name}")
        return None
    if source.kind is SourceKind.SECRET:
        labels = found["metadata"].get("labels") or {}
        if labels.get(ALLOW_LABEL) != "true":
            problems.append(f'{name} is not labelled {ALLOW_LABEL}: "true", so jobs get nothing of it')
            return None
    encoded = (found.get("data") or {}).get(reference.key)
    if encoded is None:
        if reference.key in (found.get("binaryData") or {}):
            problems.append(f"key {reference.key} of {name} is not text")
        elif not reference.is_optional:
            problems.append(f"{name} has no key {reference.key}")
        return None
    if source.kind is SourceKind.CONFIG_MAP:
        return str(encoded)
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        problems.append(f"key {reference.key} of {name} is not text")
        return None

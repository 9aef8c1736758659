"""What a job's dataFrom gives, and what it does not."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import pytest

from workerjobs.domain.data_from import mismatch, parse_references, resolved_data
from workerjobs.errors import InvalidInputError

ALLOWED = {"quickdapp.xyz/allow-jobs": "true"}


def entry(kind: str, **more: Any) -> dict[str, Any]:
    return {"name": "field", f"{kind}KeyRef": {"name": "source", "key": "key", **more}}


def secret(value: bytes | None = b"tiger", labels: dict[str, str] | None = ALLOWED) -> dict[str, Any]:
    data = {} if value is None else {"key": base64.b64encode(value).decode()}
    return {"metadata": {"name": "source", "labels": labels}, "data": data}


def config_map(**fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": "source"}, **fields}


def resolve(given: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    (reference,) = parse_references([given])
    resolved: dict[str, Any] = json.loads(resolved_data('{"n": 1}', [reference], {reference.source: found}))
    return resolved


GIVEN: list[tuple[str, dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = [
    ("a Secret", entry("secret"), secret(), {"field": "tiger"}),
    ("text beyond ASCII", entry("secret"), secret("Grüße\n".encode()), {"field": "Grüße\n"}),
    ("an empty value", entry("secret"), secret(b""), {"field": ""}),
    ("a ConfigMap", entry("configMap"), config_map(data={"key": "lion"}), {"field": "lion"}),
    ("no object, optional", entry("secret", optional=True), None, {}),
    ("no key, optional", entry("configMap", optional=True), config_map(), {}),
]


@pytest.mark.parametrize(("given", "found", "fields"), [case[1:] for case in GIVEN], ids=[case[0] for case in GIVEN])
def test_value_is_put_into_the_data(given: dict[str, Any], found: Any, fields: dict[str, Any]) -> None:
    assert resolve(given, found) == {"n": 1} | fields


WITHHELD: list[tuple[str, dict[str, Any], dict[str, Any] | None, str]] = [
    ("no object", entry("secret"), None, "there is no Secret source"),
    ("no key", entry("secret"), secret(None), "Secret source has no key key"),
    ("no label", entry("secret"), secret(labels=None), "Secret source is not labelled quickdapp.xyz/allow-jobs"),
    ("a label that says no", entry("secret"), secret(labels={"quickdapp.xyz/allow-jobs": "no"}), "is not labelled"),
    ("no label, optional", entry("secret", optional=True), secret(labels={}), "is not labelled"),
    ("bytes", entry("secret"), secret(b"\xff\xfe"), "key key of Secret source is not text"),
    (
        "binary data",
        entry("configMap"),
        config_map(binaryData={"key": "AAA="}),
        "key key of ConfigMap source is not text",
    ),
    ("NUL", entry("secret"), secret(b"a\0b"), "with what dataFrom gives, data can't be stored"),
    ("too much", entry("secret"), secret(b"x" * (1 << 20)), "with what dataFrom gives, data has"),
]


@pytest.mark.parametrize(
    ("given", "found", "sentence"), [case[1:] for case in WITHHELD], ids=[case[0] for case in WITHHELD]
)
def test_value_that_is_missing_or_not_allowed_is_named_and_never_shown(
    given: dict[str, Any], found: Any, sentence: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        resolve(given, found)
    assert sentence in str(caught.value)
    assert "tiger" not in str(caught.value)


ROW = {"uid": "u", "type": "report", "userId": 0, "data": {}, "dataFrom": [entry("secret")]}
RESOURCE: dict[str, Any] = {
    "metadata": {"name": "a", "namespace": "shop", "uid": "u"},
    "spec": {"type": "report", "dataFrom": [entry("secret")]},
}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"uid": "other"}, "the WorkerJob shop/a that it belongs to was deleted"),
        ({"type": "other"}, "WorkerJob shop/a says something else now (type)"),
        ({"userId": 1}, "WorkerJob shop/a says something else now (userId)"),
        ({"data": {"to": "me"}}, "WorkerJob shop/a says something else now (data)"),
        ({"dataFrom": [entry("configMap")]}, "WorkerJob shop/a says something else now (dataFrom)"),
    ],
    ids=["the same", "another resource", "type", "user", "data", "references"],
)
def test_row_has_to_be_what_its_resource_says(change: dict[str, Any], problem: str | None) -> None:
    assert mismatch(ROW | change, RESOURCE) == problem


def test_resource_that_is_being_deleted_gives_nothing() -> None:
    leaving = RESOURCE | {"metadata": RESOURCE["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert mismatch(ROW, leaving) == "the WorkerJob shop/a that it belongs to was deleted"


def test_worker_loads_no_client_of_kubernetes() -> None:
    heavy = ("kubernetes", "kopf", "aiohttp")
    program = f"import sys, workerjobs.app; print([name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"

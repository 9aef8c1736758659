"""JSON Schemas for kubeconform, of all that an API server knows: its own OpenAPI documents, made strict.

kubeconform's own come from the network, and know no custom resources.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.cluster.controlplane import Cluster

LOCATION = "{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json"
"""kubeconform's ``-schema-location`` in the folder."""
_PREFIX = "#/components/schemas/"


def write_schemas(cluster: Cluster, folder: Path) -> None:
    """Write one schema for each kind."""
    paths = json.loads(cluster.kubectl("get", "--raw", "/openapi/v3").stdout)["paths"]
    for path in paths:
        if not path.startswith(("api/", "apis/")) or path.count("/") < 1 + path.startswith("apis/"):
            continue
        schemas = json.loads(cluster.kubectl("get", "--raw", f"/openapi/v3/{path}").stdout)["components"]["schemas"]
        definitions = {name: _strict(schema) for name, schema in schemas.items()}
        for name, schema in schemas.items():
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                # kubeconform takes the version for the group where there is none.
                group = kind["group"] or kind["version"]
                file = f"{kind['kind'].lower()}-{group}-{kind['version']}.json"
                document = {"$ref": f"#/definitions/{name}", "definitions": definitions}
                (folder / file).write_text(json.dumps(document))


def _strict(schema: Any) -> Any:
    """Refuse fields that are not named, and say in JSON Schema what OpenAPI says in its own words."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    strict = {
        name: {key: _strict(value) for key, value in each.items()} if name == "properties" else _strict(each)
        for name, each in schema.items()
        # "quantity", "date-time" and so on are the API server's own.
        if name not in ("default", "format")
    }
    if isinstance(reference := strict.get("$ref"), str):
        strict["$ref"] = "#/definitions/" + reference.removeprefix(_PREFIX)
    if (
        "properties" in strict
        and "additionalProperties" not in strict
        and not strict.get("x-kubernetes-preserve-unknown-fields")
    ):
        strict["additionalProperties"] = False
    return strict

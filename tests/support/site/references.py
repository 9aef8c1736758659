"""References made from the code, as Markdown: the commands, the HTTP API, the custom resources."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from fastapi import FastAPI
from typer.cli import get_docs_for_click

from workerjobs.cli.commands import commands as all_commands
from workerjobs.settings import server_settings
from workerjobs.web.api.application import PROBLEMS, PROBLEMS_OF_CHANGES, PROBLEMS_OF_INPUT
from workerjobs.web.server import make_app

ROOT = Path(__file__).parents[3]
DEFINITIONS = ROOT / "manifests" / "crds"
COMMON = PROBLEMS | PROBLEMS_OF_INPUT | PROBLEMS_OF_CHANGES
"""Refusals that are said once and not of each operation."""
Schema = dict[str, Any]


# --- commands


def commands() -> str:
    """Every command with its arguments and options, by typer's own generator."""
    group = typer.main.get_command(all_commands)
    context = typer.Context(group, info_name="workerjobs")
    text = get_docs_for_click(obj=group, ctx=context, name="workerjobs", indent=1)
    text = re.sub(r"^\* `--help`: .*\n", "", text, flags=re.MULTILINE)
    # Commands without options are left with an empty list.
    text = re.sub(r"^\*\*Options\*\*:\n\n(?=\n|#|\Z)", "", text, flags=re.MULTILINE)
    # Lists of subcommands, whose texts typer cuts, as links.
    first_lines = {name: (each.help or "").partition("\n")[0] for name, each in all_of(group, "workerjobs")}
    parent, lines = "workerjobs", []
    for line in text.splitlines():
        if heading := re.match(r"#+ `(.+)`", line):
            parent = heading[1]
        elif (item := re.match(r"\* `([a-z-]+)`: ", line)) and (name := f"{parent} {item[1]}") in first_lines:
            line = f"* [`{item[1]}`](#{name.replace(' ', '-')}): {first_lines[name]}"
        lines.append(line)
    # The first heading is the page's.
    return "\n".join(lines).partition("\n")[2].strip()


def all_of(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The commands below a group, each with all its words."""
    context = typer.Context(command, info_name=name)
    for part in command.list_commands(context) if hasattr(command, "list_commands") else ():
        found = command.get_command(context, part)
        yield f"{name} {part}", found
        yield from all_of(found, f"{name} {part}")


# --- the HTTP API


def http_api() -> str:
    """Every operation and every shape of the API's description (OpenAPI)."""
    return "\n".join(_api_lines(described()))


def described() -> Schema:
    """The API's description, as `workerjobs server` gives it at /openapi.json."""
    # What requests would need beside the settings is not asked for a description.
    _, *others = inspect.signature(make_app).parameters
    make: Callable[..., FastAPI] = make_app
    return make(server_settings({}), *(None for _ in others)).openapi()


def _api_lines(api: Schema) -> Iterator[str]:
    shapes = api["components"]["schemas"]
    by_tag: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["notifications"])[0]
            by_tag.setdefault(tag, []).append((method.upper(), path, operation))
    words = {tag["name"]: tag.get("description", "") for tag in api.get("tags", [])}
    yield "Every operation may be refused with these:\n"
    yield "| answer | |\n|---|---|"
    yield from (_row(status, reason) for status, reason in sorted(COMMON.items()))
    yield ""
    # What belongs to no part of the API comes last.
    for tag, found in sorted(by_tag.items(), key=lambda part: part[0] not in words):
        yield f"## {tag.capitalize()}\n"
        if tag in words:
            yield f"{words[tag]}\n"
        for method, path, operation in found:
            yield from _operation(method, path, operation)
    yield "## Shapes\n"
    for name, shape in sorted(shapes.items()):
        yield f"### {name} {{#shape-{name.lower()}}}\n"
        if description := shape.get("description"):
            yield f"{description}\n"
        yield from _properties(shape)


def _operation(method: str, path: str, operation: Schema) -> Iterator[str]:
    yield f"### `{method} {path}`\n"
    yield f"{operation.get('description') or operation.get('summary', '')}\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | |\n|---|---|---|"
        for each in parameters:
            needed = ", needed" if each.get("required") and each["in"] != "path" else ""
            words = each.get("description") or each["schema"].get("description", "")
            yield _row(f"`{each['name']}`", f"{each['in']}{needed}", f"{type_of(each['schema'])}. {words}")
        yield ""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield f"Body: {type_of(content['schema'])}.\n"
    yield "| answer | |\n|---|---|"
    for status, answer in sorted(operation["responses"].items()):
        if answer["description"] == COMMON.get(status):
            continue
        shapes = {type_of(content["schema"]) for content in answer.get("content", {}).values() if content.get("schema")}
        said = [answer["description"].rstrip("."), *(sorted(shapes) if status < "400" else [])]
        # What FastAPI says of an answer of which nothing is said.
        words = [each for each in said if each != "Successful Response"] or ["Nothing"]
        yield _row(status, " ".join(f"{each}." for each in words))
    yield ""


def _properties(shape: Schema) -> Iterator[str]:
    if "properties" not in shape:
        yield f"{type_of(shape)}\n"
        return
    needed = shape.get("required", [])
    yield "| field | | |\n|---|---|---|"
    for name, each in shape["properties"].items():
        limits = f"{type_of(each)}{', needed' if name in needed else ''}"
        yield _row(f"`{name}`", limits, each.get("description", ""))
    yield ""


def type_of(schema: Schema) -> str:
    """A JSON Schema in a few words.

    >>> type_of({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]})
    'integer from 1, or null'
    >>> type_of({"type": "array", "items": {"$ref": "#/components/schemas/Job"}})
    'list of [Job](#shape-job)'
    """
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#shape-{name.lower()})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return ", or ".join(dict.fromkeys(type_of(each) for each in schema[several]))
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {type_of(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {type_of(schema['additionalProperties'])}"
    words = {"string": "text", "date-time": "moment"}
    text = str(words.get(schema.get("format", ""), words.get(kind, kind)))
    low, high = schema.get("minimum"), schema.get("maximum")
    text += f" from {low}" if low is not None else ""
    text += f" to {high}" if high is not None else ""
    if (default := schema.get("default")) not in (None, ""):
        text += f"; `{default}` when not given"
    return text


# --- custom resources


def resources() -> str:
    """Every field of the custom resource definitions."""
    return "\n".join(line for file in sorted(DEFINITIONS.glob("*.yaml")) for line in _resource(file))


def _resource(file: Path) -> Iterator[str]:
    definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    names = definition["spec"]["names"]
    (release,) = definition["spec"]["versions"]
    schema = release["schema"]["openAPIV3Schema"]
    api = f"{definition['spec']['group']}/{release['name']}"
    yield f"## {names['kind']}\n"
    called = f"for kubectl `{names['plural']}` or `{names['shortNames'][0]}`"
    yield f"`apiVersion: {api}`, {called}. {schema['description']}\n"
    for part in ("spec", "status"):
        whole = schema["properties"][part]
        yield f"### {names['kind']} {part}\n"
        yield f"{whole.get('description', '')}\n"
        yield "| field | | |\n|---|---|---|"
        yield from _fields(whole, "")
        yield ""
        rules = [rule["message"] for rule in whole.get("x-kubernetes-validations", [])]
        if rules:
            yield "What the API server says where fields do not go together:\n"
            yield from (f"- {rule}" for rule in rules)
            yield ""


def _fields(schema: Schema, prefix: str) -> Iterator[str]:
    needed = schema.get("required", [])
    for name, each in schema.get("properties", {}).items():
        inner = each.get("items", each) if each.get("type") == "array" else each
        has_more = "properties" in inner
        kind = "list of objects" if has_more and inner is not each else "object" if has_more else type_of(each)
        yield _row(f"`{prefix}{name}`", f"{kind}{', needed' if name in needed else ''}", each.get("description", ""))
        if has_more:
            yield from _fields(inner, f"{prefix}{name}{'[]' if inner is not each else ''}.")


def _row(*cells: str) -> str:
    """A line of a table."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"

"""Checking a job's data against the JSON Schema of its type, with sentences for people.

Schemas are what pydantic writes of a job's model (draft 2020-12), or what a job type of another origin gives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from workerjobs.domain.parsing import unknown_name
from workerjobs.errors import InvalidDataError

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

Schema = Mapping[str, Any]
ANY_OBJECT: Schema = {"type": "object"}
"""The schema of a type that says nothing of its data."""

_SHOWN_CHARACTERS = 60
_HIDDEN: Any = object()
"""In the place of a value that is not shown."""
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_FORMATS = {
    "date-time": "a moment such as 2030-01-31T08:00:00Z",
    "date": "a date such as 2030-01-31",
    "time": "a time of day such as 08:00:00",
    "uuid": "a UUID such as 123e4567-e89b-12d3-a456-426614174000",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "email": "an e-mail address",
    "uri": "a URL",
}
_LIMITS = {
    "minimum": "of at least {}",
    "exclusiveMinimum": "greater than {}",
    "maximum": "of at most {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "that is a multiple of {}",
    "minLength": "of at least {} characters",
    "maxLength": "of at most {} characters",
    "pattern": "that matches {}",
    "minItems": "of at least {} items",
    "maxItems": "of at most {} items",
    "minProperties": "of at least {} fields",
    "maxProperties": "of at most {} fields",
}


def check_data(data: object, schemas: Iterable[Schema]) -> None:
    """Refuse data that no worker would accept.

    Args:
        data: A job's data, already known to be JSON that can be stored (`workerjobs.domain.job_checks.check_job`).
        schemas: What workers ask of the data, newest first: several things while two releases run side by side.
            Empty where nothing is known; then nothing is refused.

    Raises:
        InvalidDataError: With everything that is wrong for the newest.
    """
    refusals = []
    for schema in schemas:
        if schema == ANY_OBJECT or not (problems := data_problems(schema, data)):
            return
        refusals.append(problems)
    if refusals:
        raise InvalidDataError(refusals[0])


def data_problems(schema: Schema, data: object, hidden: Collection[str] = ()) -> list[str]:
    """Say where data differs from a schema.

    What the schema itself gets wrong is not held against the data: a schema that can't be read accepts everything.

    Args:
        schema: JSON Schema, draft 2020-12. References to other documents are not followed.
        data: JSON as Python reads it.
        hidden: Fields of the data whose values, which are text, no sentence shows.

    Returns:
        One sentence for each problem, naming the field, its value, and what is accepted; empty where all is well.

    Example:
        >>> data_problems({"properties": {"copies": {"type": "integer", "minimum": 1}}}, {"copies": 0})
        ['data.copies is 0: give a whole number of at least 1']
    """
    # Here and not above: it takes some 100 ms, and most processes never look at a schema.
    import referencing.exceptions
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import SchemaError

    try:
        # Without formats: pydantic's patterns are Rust's, and not all of them Python's.
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
        errors = sorted(_validator(schema).iter_errors(data), key=lambda error: [str(key) for key in error.path])
        for error in errors if hidden else ():
            _hide(error, hidden)
        found = [problem for error in errors for problem in _problems_of(error, (), schema)]
    except (SchemaError, referencing.exceptions.Unresolvable, RecursionError):
        return []
    return list(dict.fromkeys(found))


def describe(schema: Schema, root: Schema | None = None) -> str:
    """Say in a few words what a schema accepts.

    Args:
        schema: What to describe.
        root: The schema that its ``$ref`` are looked up in; the schema itself if not given.

    Example:
        >>> describe({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]})
        'text of at most 3 characters, or null'
    """
    root = schema if root is None else root
    schema = _resolved(schema, root)
    if "const" in schema:
        return shown(schema["const"])
    if "enum" in schema:
        return _either([shown(value) for value in schema["enum"]])
    for combination in ("anyOf", "oneOf"):
        if combination in schema:
            return _either([describe(each, root) for each in schema[combination]])
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    words = _either([_TYPES.get(name, name) for name in names])
    if schema.get("format") in _FORMATS:
        words = _FORMATS[schema["format"]]
    elif names == ["object"] and "title" in schema and "properties" in schema:
        words = f"an object ({schema['title']})"
    limits = [
        text.format(schema[keyword]).removesuffix("s" if schema[keyword] == 1 else "")
        for keyword, text in _LIMITS.items()
        if keyword in schema
    ]
    if schema.get("uniqueItems") is True:
        limits.append("without repetitions")
    items = schema.get("items")
    each = f", each {describe(items, root)}" if names == ["array"] and isinstance(items, Mapping) and items else ""
    return " ".join([words or "a value", " and ".join(limits)]).strip() + each


def shown(value: object) -> str:
    """Show a value in a sentence, as JSON, cut where it is long."""
    if value is _HIDDEN:
        return "hidden"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def holds_secret(schema: object) -> bool:
    """Whether a schema, or a part of it, is of what must not be shown (pydantic's ``SecretStr``)."""
    if isinstance(schema, Mapping):
        return schema.get("writeOnly") is True or any(holds_secret(each) for each in schema.values())
    return isinstance(schema, list) and any(holds_secret(each) for each in schema)


def place(path: Iterable[object]) -> str:
    """Name a place in the data.

    Example:
        >>> place(["lines", 0, "unit price"])
        'data.lines[0]["unit price"]'
    """
    name = "data"
    for key in path:
        if isinstance(key, str) and re.fullmatch(r"[^\W\d][\w-]*", key):
            name += f".{key}"
        else:
            name += f"[{shown(key)}]"
    return name


def _validator(schema: Schema) -> Any:
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.validators import extend
    from referencing import Registry

    # The library's own checks of other formats need more packages, or refuse what pydantic takes; and its own registry
    # would fetch what a schema refers to.
    formats = FormatChecker(formats=["date", "ipv4", "ipv6"])
    formats.checks("date-time", raises=ValueError)(_is_moment)
    formats.checks("uuid", raises=ValueError)(_is_uuid)
    validator = extend(Draft202012Validator, {"pattern": _check_pattern})  # type: ignore[no-untyped-call]
    return validator(schema, registry=Registry(), format_checker=formats)


def _hide(error: ValidationError, hidden: Collection[str]) -> None:
    """Take the values of some fields out of an error, and out of those that it is made of."""
    instance: Any = error.instance
    is_whole = not error.absolute_path and isinstance(instance, Mapping)
    if is_whole:
        error.instance = {name: "hidden" if name in hidden else value for name, value in instance.items()}
    # Where nothing is accepted at all (the schema `false`), jsonschema (4.26) leaves the field's name out of the path.
    elif not error.absolute_path or error.absolute_path[0] in hidden:
        error.instance = _HIDDEN
    if is_whole or error.instance is _HIDDEN:
        error.message = f"it does not do as {error.validator} says"
    for each in error.context or ():
        _hide(each, hidden)


def _problems_of(error: ValidationError, before: tuple[object, ...], root: Schema) -> Iterator[str]:
    path = (*before, *error.relative_path)
    instance: Any = error.instance
    schema: Any = error.schema
    if not isinstance(schema, Mapping):
        yield f"{place(path)} is {shown(instance)}: nothing is accepted here"
    elif error.validator == "required":
        for name in schema["required"]:
            if name not in instance:
                accepted = schema.get("properties", {}).get(name, {})
                yield f"{place([*path, name])} is missing: give {describe(accepted, root)}"
    elif error.validator == "additionalProperties" and schema["additionalProperties"] is False:
        known = schema.get("properties", {})
        # Patterns are rare; where there are some, the library's own words are as good.
        if "patternProperties" in schema:
            yield f"{place(path)}: {error.message}"
            return
        for name in instance:
            if name not in known:
                yield f"{place(path)}: {unknown_name(name, known)}"
    elif error.validator in ("anyOf", "oneOf"):
        yield from _problems_of_alternatives(error, path, root)
    elif error.validator in ("not", "contains", "dependentRequired", "propertyNames", "unevaluatedProperties", "if"):
        yield f"{place(path)} is {shown(instance)}: {error.message}"
    else:
        value = "hidden" if holds_secret(schema) else shown(instance)
        yield f"{place(path)} is {value}: give {describe(schema, root)}"


def _problems_of_alternatives(error: ValidationError, path: tuple[object, ...], root: Schema) -> Iterator[str]:
    """Say what is wrong with the alternative that was meant, or, where that is unclear, which ones there are."""
    assert isinstance(error.schema, Mapping)
    instance, discriminator = error.instance, error.schema.get("discriminator", {})
    tag, tags = discriminator.get("propertyName"), list(discriminator.get("mapping", ()))
    if isinstance(instance, Mapping) and tags and instance.get(tag) not in tags:
        tag_place = place([*path, tag])
        is_what = f"is {shown(instance[tag])}" if tag in instance else "is missing"
        yield f"{tag_place} {is_what}: give {_either([shown(each) for each in tags])}"
        return
    branches: dict[object, list[ValidationError]] = {}
    for each in error.context or ():
        branches.setdefault(each.relative_schema_path[0], []).append(each)
    meant = [errors for errors in branches.values() if not any(_is_another_kind(each) for each in errors)]
    if len(meant) == 1:
        for each in meant[0]:
            yield from _problems_of(each, path, root)
    else:
        value = "hidden" if holds_secret(error.schema) else shown(instance)
        yield f"{place(path)} is {value}: give {describe(error.schema, root)}"


def _is_another_kind(error: ValidationError) -> bool:
    """Whether an alternative can't have been meant: it is of another type, or its mark (``kind: …``) is another one."""
    depth = len(error.relative_path)
    return (error.validator == "type" and depth == 0) or (error.validator in ("const", "enum") and depth == 1)


def _resolved(schema: Schema, root: Schema) -> Schema:
    for _ in range(10):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        found: Any = root
        for key in reference[1:].split("/")[1:]:
            found = found.get(key.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
        schema = found
    return {}


def _either(words: list[str]) -> str:
    words = list(dict.fromkeys(words))
    if len(words) > 1:
        comma = "," if any(" " in word for word in words) else ""
        return f"{', '.join(words[:-1])}{comma} or {words[-1]}"
    return "".join(words)


def _check_pattern(_: object, pattern: str, instance: object, __: object) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, str):
        return
    try:
        matches = re.search(pattern, instance) is not None
    except re.error:
        # One of Rust's that Python does not understand is left to the worker.
        return
    if not matches:
        yield ValidationError(f"does not match {pattern}")


def _is_moment(value: object) -> bool:
    from datetime import datetime

    return not isinstance(value, str) or bool(datetime.fromisoformat(value))


def _is_uuid(value: object) -> bool:
    from uuid import UUID

    return not isinstance(value, str) or bool(UUID(value))

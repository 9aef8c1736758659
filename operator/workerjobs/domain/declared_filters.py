"""Filters of logs that are declared as data: in SQL, in YAML, or by a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from workerjobs.domain.events import EventSignature, FactorySource, LogQuery, parse_address, parse_event
from workerjobs.errors import InvalidInputError


class FilterAction(StrEnum):
    """What a declared filter does with a log."""

    ENQUEUE = "enqueue"
    NOTIFY = "notify"
    WEBHOOK = "webhook"


_FIELDS = ("name", "chain", "event", "addresses", "factory", "fromBlock", "action", "options", "enabled")
MAX_BLOCK = 2**63 - 1
_OPTIONS = {
    FilterAction.ENQUEUE: ("type", "data", "pool", "priority"),
    FilterAction.NOTIFY: ("user", "data"),
    FilterAction.WEBHOOK: ("url", "secretEnv", "pool"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredFilter:
    """A filter as it is stored; `check_filter` says whether it can be used."""

    name: str
    event: str
    action: str
    chain: str | None = None
    """None: every chain that is watched."""
    addresses: list[str] | None = None
    """None: any contract."""
    factory: Mapping[str, Any] | None = None
    """addresses, event, parameter: the contracts that these factories made."""
    from_block: int | None = None
    """``fromBlock``: the first block whose logs it wants; None: those of blocks that are processed from now on."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """enqueue: type, data, pool, priority. notify: user (the parameter that holds the user's wallet), data. webhook:
    url, secretEnv (the variable that holds the secret), pool."""
    enabled: bool = True


def check_filter(declared: DeclaredFilter) -> LogQuery:
    """Check a declared filter; returns which logs it asks for.

    Raises:
        InvalidInputError: With everything that is wrong.
    """
    problems: list[str] = []

    def attempt(make: Any, *arguments: Any) -> Any:
        try:
            return make(*arguments)
        except InvalidInputError as error:
            problems.extend(error.problems)
            return None

    if not isinstance(declared.name, str) or not declared.name.strip():
        problems.append("name is missing")
    event = attempt(parse_event, str(declared.event))
    addresses = None
    if declared.addresses is not None:
        addresses = tuple(attempt(parse_address, str(each)) or "" for each in declared.addresses)
    factory = attempt(_factory, declared.factory) if declared.factory is not None else None
    if declared.from_block is not None and not _is_block(declared.from_block):
        problems.append(f"fromBlock is {declared.from_block!r}: give the number of a block")
    problems += _action_problems(declared, event)
    if problems:
        raise InvalidInputError([f"chain filter {declared.name!r}: {problem}" for problem in problems])
    return LogQuery(declared.name, event, addresses, factory, declared.from_block)


def read_filter(document: Mapping[str, Any]) -> DeclaredFilter:
    """Read a filter from a mapping, as YAML and JSON have it, and check it.

    Raises:
        InvalidInputError: With everything that is wrong.
    """
    unknown = [str(key) for key in document if key not in _FIELDS]
    missing = [key for key in ("name", "event", "action") if not document.get(key)]
    problems = [f"{key} is not known: known are {', '.join(_FIELDS)}" for key in unknown]
    problems += [f"{key} is missing" for key in missing]
    if not isinstance(document.get("options", {}), Mapping):
        problems.append("options is no mapping")
    addresses = document.get("addresses")
    if addresses is not None and not isinstance(addresses, list):
        problems.append("addresses is no list")
    if not isinstance(document.get("enabled", True), bool):
        problems.append("enabled is neither true nor false")
    if problems:
        raise InvalidInputError([f"chain filter {document.get('name')!r}: {problem}" for problem in problems])
    given = {key: value for key, value in document.items() if value is not None and key != "fromBlock"}
    declared = DeclaredFilter(**given, from_block=document.get("fromBlock"))
    check_filter(declared)
    return declared


def _is_block(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BLOCK


def _factory(document: object) -> FactorySource:
    if not isinstance(document, Mapping) or set(document) != {"addresses", "event", "parameter"}:
        raise InvalidInputError("factory needs addresses, event and parameter, and nothing else")
    event = parse_event(str(document["event"]))
    parameter = next((each for each in event.parameters if each.name == document["parameter"]), None)
    if parameter is None or parameter.type != "address":
        raise InvalidInputError(f"factory.parameter is {document['parameter']!r}: name an address of {event.canonical}")
    if not isinstance(document["addresses"], list) or not document["addresses"]:
        raise InvalidInputError("factory.addresses is empty: give the factories' addresses")
    return FactorySource(tuple(parse_address(str(each)) for each in document["addresses"]), event, parameter.name)


def _action_problems(declared: DeclaredFilter, event: EventSignature | None) -> list[str]:
    try:
        action = FilterAction(declared.action)
    except ValueError:
        return [f"action is {declared.action!r}: give enqueue, notify or webhook"]
    options, known = declared.options, _OPTIONS[action]
    problems = [
        f"options.{key} is not known for {action}: known are {', '.join(known)}" for key in options if key not in known
    ]
    if not isinstance(options.get("data", {}), Mapping):
        problems.append("options.data is no mapping")
    if not isinstance(options.get("pool", ""), str):
        problems.append(f"options.pool is {options['pool']!r}: give the name of a pool")
    if action is FilterAction.ENQUEUE and not (isinstance(options.get("type"), str) and options["type"].strip()):
        problems.append("options.type is missing: give the type of the job")
    if action is FilterAction.NOTIFY:
        names = [] if event is None else [each.name for each in event.parameters if each.type == "address"]
        if options.get("user") not in names:
            problems.append(
                f"options.user is {options.get('user')!r}: name the parameter that holds the user's wallet"
                + (f" ({', '.join(names)})" if names else "")
            )
    if action is FilterAction.WEBHOOK:
        url = options.get("url")
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            problems.append(f"options.url is {url!r}: give an http or https address")
        if not isinstance(options.get("secretEnv"), str) or not options["secretEnv"]:
            problems.append("options.secretEnv is missing: name the variable of the workers that holds the secret")
    return problems

"""Reading the environment, as the settings of all roles do: every problem is found before any is reported."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from workerjobs.errors import InvalidSettingsError
from workerjobs.logs import LEVELS

T = TypeVar("T")

DEFAULT_HEALTH_PORT = 8090


class Reader:
    """Reads variables one by one and collects what is wrong with them.

    Args:
        environment: The variables; None: this process's.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.given = os.environ if environment is None else environment
        self.problems: list[str] = []

    def read(self, name: str, default: T, parse: Callable[[str], T], accepted: str) -> T:
        """Parse one variable; unset and empty mean the default."""
        text = self.given.get(name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError:
            self.problems.append(f"{name}={text!r} is not accepted: give {accepted}")
            return default

    def finish(self) -> None:
        """Raise all problems at once."""
        if self.problems:
            raise InvalidSettingsError(self.problems)

    # --- what all roles read

    def database_url(self) -> str | None:
        """DATABASE_URL."""
        return self._url(database_url)

    def database_direct_url(self) -> str | None:
        """DATABASE_DIRECT_URL."""
        return self._url(database_direct_url)

    def database_wait_seconds(self) -> float:
        """DATABASE_WAIT_SECONDS."""
        return self.read("DATABASE_WAIT_SECONDS", 0.0, number(0, 86_400), "seconds from 0 to 86400")

    def log_level(self) -> str:
        """WORKER_LOG_LEVEL."""
        return self.read("WORKER_LOG_LEVEL", "info", one_of(*LEVELS), ", ".join(LEVELS))

    def health_host(self) -> str:
        """WORKER_HEALTH_HOST."""
        return self.read("WORKER_HEALTH_HOST", "127.0.0.1", str, "an address")

    def health_port(self) -> int | None:
        """WORKER_HEALTH_PORT."""
        default: int | None = DEFAULT_HEALTH_PORT
        return self.read("WORKER_HEALTH_PORT", default, _port, 'a port from 0 to 65535, or "off"')

    def _url(self, read: Callable[[Mapping[str, str]], str | None]) -> str | None:
        try:
            return read(self.given)
        except InvalidSettingsError as error:
            self.problems += error.problems
            return None


def one_of(*names: str) -> Callable[[str], str]:
    """One of some words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(text)
        return text.lower()

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """A number in a range."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number in a range, or 0."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit():
            raise ValueError(text)
        value = int(text)
        if value and not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def _port(text: str) -> int | None:
    if text.lower() == "off":
        return None
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError(text)
    return value


def names_in(text: str) -> tuple[str, ...]:
    """Names, comma-separated."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def database_url(environment: Mapping[str, str] | None = None) -> str | None:
    """Read DATABASE_URL alone.

    Returns:
        The URL, or None where it is not set and the embedded Postgres serves.

    Raises:
        InvalidSettingsError: It is no Postgres URL. The value is not repeated, as it may hold a password.
    """
    return _url_of("DATABASE_URL", os.environ if environment is None else environment)


def database_direct_url(environment: Mapping[str, str] | None = None) -> str | None:
    """Read DATABASE_DIRECT_URL alone, as `database_url`; it can't stand without that."""
    given = os.environ if environment is None else environment
    url = _url_of("DATABASE_DIRECT_URL", given)
    if url is not None and not given.get("DATABASE_URL", "").strip():
        raise InvalidSettingsError("DATABASE_DIRECT_URL needs DATABASE_URL, the same database through its pooler")
    return url


def _url_of(name: str, environment: Mapping[str, str]) -> str | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not text.startswith(("postgresql://", "postgres://")):
        raise InvalidSettingsError(f"{name} is not accepted: give postgresql://user:password@host:port/name")
    return text

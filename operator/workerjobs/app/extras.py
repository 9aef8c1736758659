"""Packages that only some roles need, imported where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from workerjobs.errors import InvalidSettingsError


@contextmanager
def extra(name: str, who_needs: str) -> Iterator[None]:
    """Say how to install an extra of this package where an import in this block fails.

    Args:
        name: The extra's.
        who_needs: The beginning of the sentence, such as "The server needs".

    Raises:
        InvalidSettingsError: In place of the ImportError.
    """
    try:
        yield
    except ImportError as error:
        raise InvalidSettingsError(f'{who_needs} more packages: pip install "workerjobs[{name}]" ({error})') from error

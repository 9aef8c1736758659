"""What a test does about a missing part of the machine: skip, or fail where that part was promised."""

import os
from typing import NoReturn

import pytest


def require_or_skip(part: str, reason: str) -> NoReturn:
    """Skip the running test because of ``reason``, or fail it where ``WORKERJOBS_REQUIRE`` promises the part.

    CI sets ``WORKERJOBS_REQUIRE=cluster,…``, so that a missing part cannot hide behind skipped tests there.

    Args:
        part: The name of what is missing, as it stands in the comma-separated ``WORKERJOBS_REQUIRE``.
        reason: One sentence on what is missing and why.
    """
    if part in os.environ.get("WORKERJOBS_REQUIRE", "").replace(" ", "").split(","):
        pytest.fail(f"{reason} (WORKERJOBS_REQUIRE names {part!r})", pytrace=False)
    pytest.skip(reason)

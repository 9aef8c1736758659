"""Which filters with a start block are processed next, and how far."""

from __future__ import annotations

import pytest

from workerjobs.domain.backfill import Backfill, plan_backfill
from workerjobs.domain.blocks import BlockRef
from workerjobs.domain.events import LogQuery, parse_event

HEAD = BlockRef(100, "h")


@pytest.mark.parametrize(
    ("cursors", "expected"),
    [
        ({}, None),
        ({"level": HEAD}, None),
        ({"a": BlockRef(10, "x")}, Backfill(("a",), BlockRef(10, "x"), 100)),
        # Up to where it meets the next one, and from there on together.
        ({"a": BlockRef(10, "x"), "b": BlockRef(40, "y"), "c": HEAD}, Backfill(("a",), BlockRef(10, "x"), 40)),
        ({"b": BlockRef(40, "y"), "a": BlockRef(40, "y")}, Backfill(("a", "b"), BlockRef(40, "y"), 100)),
        # One that begins there knows no hash yet.
        ({"new": BlockRef(40, ""), "a": BlockRef(40, "y")}, Backfill(("a", "new"), BlockRef(40, "y"), 100)),
        ({"new": BlockRef(-1, "")}, Backfill(("new",), BlockRef(-1, ""), 100)),
    ],
)
def test_those_furthest_behind_come_first(cursors: dict[str, BlockRef], expected: Backfill | None) -> None:
    assert plan_backfill(cursors, HEAD) == expected


def test_a_query_tells_whether_it_asks_for_the_same() -> None:
    event = parse_event("Moved(address indexed by, uint256 to)")
    other = parse_event("Moved(address by, uint256 to)")
    base = LogQuery("mine", event, ("0x2", "0x1"), None, 5)
    assert base.text == LogQuery("mine", event, ("0x1", "0x2"), None, 5).text
    assert (
        len(
            {
                base.text,
                *(
                    LogQuery("mine", *each).text
                    for each in [
                        (other, ("0x1", "0x2"), None, 5),
                        (event, None, None, 5),
                        (event, ("0x1", "0x2"), None, 6),
                    ]
                ),
            }
        )
        == 4
    )

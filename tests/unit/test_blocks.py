"""Rules of blocks: what follows what, where a reorganisation began, what a bloom filter excludes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workerjobs.domain.blocks import (
    BlockRef,
    ChainChangedError,
    Confirmations,
    Header,
    Heads,
    common_ancestor,
    contiguous,
    may_contain,
    split_by_logs,
)
from workerjobs.domain.keccak import bloom_mask_of


def header(number: int, fork: str = "a", parent: str = "a") -> Header:
    return Header(number, f"{fork}{number}", f"{parent}{number - 1}", number, "0x0")


def test_blocks_are_taken_up_to_the_first_that_is_missing() -> None:
    found = contiguous(BlockRef(4, "a4"), [header(5), header(6), None, header(8)])
    assert [each.number for each in found] == [5, 6]


@pytest.mark.parametrize("headers", [[header(5, parent="b")], [header(5), header(6, parent="b")], [header(6)]])
def test_a_block_that_is_no_child_of_the_one_before_means_that_the_chain_changed(headers: list[Header]) -> None:
    with pytest.raises(ChainChangedError):
        contiguous(BlockRef(4, "a4"), headers)


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_common_ancestor_is_the_newest_block_that_both_have(length: int, depth: int) -> None:
    stored = [BlockRef(number, f"a{number}") for number in range(length, -1, -1)]
    canonical = {number: f"{'b' if number > length - depth else 'a'}{number}" for number in range(length + 5)}
    expected = length - depth
    found = common_ancestor(stored, canonical)
    assert found == (BlockRef(expected, f"a{expected}") if expected >= 0 else None)


@pytest.mark.parametrize(
    ("text", "target"), [("latest", 100), ("12", 88), ("safe", 90), ("finalized", 70), ("0", 100), ("200", -100)]
)
def test_confirmations_decide_how_far_is_processed(text: str, target: int) -> None:
    heads = Heads(header(100), 90, 70)
    assert heads.target(Confirmations.parse(text)) == target


def test_where_a_chain_names_no_final_block_a_depth_counts() -> None:
    assert Heads(header(100), None, None).final(64) == 36
    assert Heads(header(100), None, None).target(Confirmations.parse("finalized")) == -1
    assert Heads(header(100), None, 10).final(64) == 10


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "10000000"])
def test_other_confirmations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text or "^$"):
        Confirmations.parse(text)


def test_a_bloom_filter_excludes_what_is_not_in_it() -> None:
    address, topic, other = "0x" + "11" * 20, "0x" + "22" * 32, "0x" + "33" * 20
    bloom = bloom_mask_of(address) | bloom_mask_of(topic)
    assert may_contain(bloom, [([bloom_mask_of(address)], [bloom_mask_of(topic)])])
    assert may_contain(bloom, [([], [bloom_mask_of(topic)])])
    assert not may_contain(bloom, [([bloom_mask_of(other)], [bloom_mask_of(topic)])])
    assert not may_contain(0, [([], [bloom_mask_of(topic)])])


@given(st.dictionaries(st.integers(10, 60), st.integers(1, 9), max_size=20), st.integers(1, 20))
def test_parts_of_a_range_cover_it_and_hold_the_limit(counts: dict[int, int], limit: int) -> None:
    parts = split_by_logs(counts, 10, 60, limit)
    assert [number for begin, end in parts for number in range(begin, end + 1)] == list(range(10, 61))
    for begin, end in parts:
        inside = [count for number, count in counts.items() if begin <= number <= end]
        assert sum(inside) <= limit or len(inside) == 1

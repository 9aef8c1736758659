"""What endpoints say when they refuse is understood, and ranges always shrink."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workerjobs.chain.refusals import SAYINGS, Kind, Refusal, Saying, read_refusal, smaller


@pytest.mark.parametrize("saying", SAYINGS, ids=lambda saying: saying.example[:70])
def test_each_saying_is_recognized(saying: Saying) -> None:
    assert read_refusal(-32000, saying.example).kind is saying.kind


@pytest.mark.parametrize(
    ("message", "blocks"),
    [
        ("requested too many blocks from 1 to 5000, maximum is set to 2048", 2048),
        ("eth_getLogs is limited to a 10,000 range", 10_000),
        ("eth_getLogs is limited to 0 - 50 blocks range", 50),
        ("eth_getLogs range is too large, max is 10k blocks", 10_000),
        ("exceed maximum block range: 50000", 50_000),
        ("query exceeds max results 20000, retry with the range 24383075-24383096", 22),
        ("query returned more than 10000 results. Try with this block range [0x10, 0x1f].", 16),
        ("You can make eth_getLogs requests with up to a 2000 block range", 2000),
        ("requested block range 16777217 exceeds the limit of 200; narrow your fromBlock/toBlock", 200),
        ("too wide blocks range, the limit is 100", 100),
        ("query exceeds range, retry smaller (max block range 5000, got 16777216)", 5000),
        ("block range is too wide", None),
        ("Log response size exceeded. this block range should work: [0x5, 0x1]", None),
    ],
)
def test_the_range_that_a_refusal_names_is_read(message: str, blocks: int | None) -> None:
    refusal = read_refusal(-32602, message)
    assert refusal.kind in (Kind.RANGE, Kind.RESULTS)
    assert refusal.blocks == blocks


@pytest.mark.parametrize(
    ("code", "message", "method", "kind"),
    [
        (-32005, "limit exceeded", "eth_getLogs", Kind.RESULTS),
        (-32005, "limit exceeded", "eth_blockNumber", Kind.RATE),
        (429, "anything", "eth_getLogs", Kind.RATE),
        (-32601, "no", "eth_getLogs", Kind.UNSUPPORTED),
        (-32000, "execution reverted", "eth_call", Kind.OTHER),
        (-32603, "internal error", "eth_getLogs", Kind.OTHER),
    ],
)
def test_codes_count_where_the_text_says_nothing(code: int, message: str, method: str, kind: Kind) -> None:
    assert read_refusal(code, message, method=method).kind is kind


def test_a_limit_in_the_data_of_an_error_is_read() -> None:
    assert read_refusal(-32000, "server error", "eth_getLogs is limited to a 1,000 range").blocks == 1000


@given(st.integers(1, 10**6), st.one_of(st.none(), st.integers(-5, 10**7)))
def test_a_refused_range_always_shrinks(span: int, suggested: int | None) -> None:
    chosen = smaller(span, Refusal(Kind.RANGE, "", suggested))
    assert chosen >= 1
    assert chosen < span or span == 1


def test_a_very_long_error_costs_no_time() -> None:
    assert read_refusal(-32000, "x" * 10_000_000 + "block range is too wide").kind is Kind.OTHER

"""Decoders of logs agree with eth-abi, and refuse what is no such log."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from workerjobs.chain.decoding import UndecodableError, compile_event
from workerjobs.domain.events import parse_event
from workerjobs.errors import InvalidInputError

ADDRESS = "0x" + "ab" * 20


def data_of(types: list[str], values: list[Any]) -> str:
    return "0x" + encode(types, values).hex()


def word(kind: str, value: Any) -> str:
    return "0x" + encode([kind], [value]).hex()


@pytest.mark.parametrize(
    ("event", "topic"),
    [
        (
            "Transfer(address indexed from, address indexed to, uint256 value)",
            "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
        ),
        (
            "event Approval(address indexed, address indexed, uint);",
            "0x8c5be1e5ebec7d5bd14f71427d1e84f3dd0314c0f7b2291e5b200ac8c7c3b925",
        ),
    ],
)
def test_an_events_topic_is_the_hash_of_its_canonical_form(event: str, topic: str) -> None:
    assert compile_event(parse_event(event)).topic == topic


PLAIN: list[tuple[str, st.SearchStrategy[Any]]] = [
    ("uint256", st.integers(0, 2**256 - 1)),
    ("uint8", st.integers(0, 255)),
    ("int256", st.integers(-(2**255), 2**255 - 1)),
    ("int24", st.integers(-(2**23), 2**23 - 1)),
    ("bool", st.booleans()),
    ("address", st.just(ADDRESS)),
    ("bytes32", st.binary(min_size=32, max_size=32)),
    ("bytes4", st.binary(min_size=4, max_size=4)),
    ("string", st.text(st.characters(exclude_categories=["Cs"]), max_size=80)),
    ("bytes", st.binary(max_size=100)),
    ("uint256[]", st.lists(st.integers(0, 2**256 - 1), max_size=4)),
    ("address[2]", st.just([ADDRESS, ADDRESS])),
]


@given(st.lists(st.sampled_from(range(len(PLAIN))), max_size=6), st.data())
def test_what_eth_abi_writes_is_read_back(kinds: list[int], data: st.DataObject) -> None:
    types = [PLAIN[kind][0] for kind in kinds]
    values = [data.draw(PLAIN[kind][1]) for kind in kinds]
    event = parse_event(f"Happened({', '.join(f'{kind} p{index}' for index, kind in enumerate(types))})")
    compiled = compile_event(event)
    assert list(compiled.decode([compiled.topic], data_of(types, values)).values()) == values


def test_indexed_parameters_come_from_topics_in_the_order_of_the_declaration() -> None:
    event = compile_event(parse_event("Sent(address indexed who, uint8 kind, string indexed note, int16 indexed by)"))
    topics = [event.topic, word("address", ADDRESS), "0x" + "cd" * 32, word("int16", -5)]
    assert event.decode(topics, word("uint8", 7)) == {"who": ADDRESS, "kind": 7, "note": "0x" + "cd" * 32, "by": -5}


TRANSFER = compile_event(parse_event("Transfer(address indexed from, address indexed to, uint256 value)"))
NAMED = compile_event(parse_event("Named(string name, bool loud, uint8 size)"))


@pytest.mark.parametrize(
    ("event", "topics", "data", "reason"),
    [
        (TRANSFER, 4, "0x", "4 topics, not 3"),
        (TRANSFER, 3, "0x", "it has 0 bytes, not 32 or more"),
        (TRANSFER, 3, "0x" + "zz" * 32, "invalid literal"),
        (NAMED, 1, data_of(["uint256", "uint256", "uint256"], [2**255, 0, 0]), "can't be read|less data"),
        (NAMED, 1, data_of(["uint256", "uint256", "uint256", "uint256"], [96, 0, 0, 500]), "less data than it says"),
        (NAMED, 1, data_of(["string", "uint256", "uint8"], ["a", 2, 0]), "loud is no bool"),
        (NAMED, 1, data_of(["string", "bool", "uint256"], ["a", True, 256]), "size is no uint8"),
    ],
)
def test_what_is_no_log_of_the_event_is_refused(event: Any, topics: int, data: str, reason: str) -> None:
    with pytest.raises(UndecodableError, match=reason):
        event.decode([event.topic, *["0x" + "00" * 32] * (topics - 1)], data)


def test_bytes_that_are_no_text_do_not_make_a_log_undecodable() -> None:
    data = data_of(["bytes", "bool", "uint8"], [b"A\xff\x00B", False, 1])
    assert NAMED.decode([NAMED.topic], data)["name"] == "A\ufffd\x00B"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Transfer", "is no event"),
        ("Transfer(address indexed from", "is no event"),
        ("Transfer(adress from)", "is no parameter"),
        ("Transfer(uint7 value)", "bits from 8 to 256"),
        ("Transfer(address a, uint a)", "two parameters of one name"),
        ("T(uint indexed a, uint indexed b, uint indexed c, uint indexed d)", "more than 3 indexed"),
        ("Transfer(address from) anonymous", "is anonymous"),
        ("Transfer((address,uint256) pair)", "is no parameter"),
    ],
)
def test_what_is_no_event_is_refused_with_a_sentence(text: str, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        parse_event(text)

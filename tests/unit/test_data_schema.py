"""Sentences about data that its schema does not accept."""

from __future__ import annotations

from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field

from workerjobs.domain.data_schema import ANY_OBJECT, check_data, data_problems, describe
from workerjobs.errors import InvalidDataError, InvalidInputError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float = Field(gt=0)


class Square(BaseModel):
    kind: Literal["square"]
    side: int


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid")
    price: int = Field(ge=1, le=5)
    names: list[str] = Field(default_factory=lambda: ["any"], min_length=1, max_length=2)
    note: int | str | None = None


class Node(BaseModel):
    children: list[Node] = []


class Data(BaseModel):
    text: str = Field(default="abc", min_length=2, max_length=3, pattern="^[a-z]+$")
    letters: str = Field(default="a", pattern=r"^\p{L}+$")
    flag: bool = True
    share: float = Field(default=0.5, lt=1)
    even: int = Field(default=2, multiple_of=2)
    maybe: int | None = None
    when: datetime | None = None
    day: date = date(2030, 1, 31)
    uuid: UUID = UUID(int=0)
    colour: Colour = Colour.RED
    lines: list[Line] = []
    table: dict[str, int] = {}
    pair: tuple[int, str] = (1, "a")
    unique: set[int] = set()
    tagged: Annotated[Circle | Square, Field(discriminator="kind")] | None = None
    shape: Circle | Square | None = None
    tree: Node | None = None


SCHEMA = Data.model_json_schema()
REQUIRED: dict[str, Any] = {
    "type": "object",
    "properties": {"to": {"type": "array", "items": {"type": "string"}}, "n": {"type": ["integer", "null"]}},
    "required": ["to", "n", "other"],
}


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        ({"text": 5}, ["data.text is 5: give text of at least 2 characters and of at most 3 characters and {}"]),
        (
            {"text": "A"},
            ['data.text is "A": give text of at least 2 characters and of at most 3 characters and {}'] * 2,
        ),
        ({"flag": "yes"}, ['data.flag is "yes": give true or false']),
        ({"flag": None}, ["data.flag is null: give true or false"]),
        ({"share": 1}, ["data.share is 1: give a number less than 1"]),
        ({"even": 3}, ["data.even is 3: give a whole number that is a multiple of 2"]),
        ({"even": 2.5}, ["data.even is 2.5: give a whole number that is a multiple of 2"] * 2),
        ({"maybe": "x"}, ['data.maybe is "x": give a whole number, or null']),
        ({"day": "soon"}, ['data.day is "soon": give a date such as 2030-01-31']),
        ({"when": "soon"}, ['data.when is "soon": give a moment such as 2030-01-31T08:00:00Z']),
        ({"uuid": "x"}, ['data.uuid is "x": give a UUID such as 123e4567-e89b-12d3-a456-426614174000']),
        ({"colour": "green"}, ['data.colour is "green": give "red" or "blue"']),
        ({"lines": {}}, ["data.lines is {}: give a list, each an object (Line)".replace("{}", "{{}}")]),
        ({"lines": [{"price": 9}]}, ["data.lines[0].price is 9: give a whole number of at least 1 and of at most 5"]),
        ({"lines": [{}]}, ["data.lines[0].price is missing: give a whole number of at least 1 and of at most 5"]),
        ({"lines": [{"price": 1, "nam": 1}]}, ["data.lines[0]: unknown field 'nam': did you mean names?"]),
        (
            {"lines": [{"price": 1, "names": []}]},
            ["data.lines[0].names is []: give a list of at least 1 item and of at most 2 items, each text"],
        ),
        ({"lines": [{"price": 1, "note": []}]}, ["data.lines[0].note is []: give a whole number, text, or null"]),
        ({"table": {"a": 1, "b c": "x"}}, ['data.table["b c"] is "x": give a whole number']),
        ({"pair": ["x", "y"]}, ['data.pair[0] is "x": give a whole number']),
        ({"unique": [1, 1]}, ["data.unique is [1, 1]: give a list without repetitions, each a whole number"]),
        ({"tagged": {"kind": "circle"}}, ["data.tagged.radius is missing: give a number greater than 0"]),
        ({"tagged": {"kind": "star"}}, ['data.tagged.kind is "star": give "circle" or "square"']),
        ({"tagged": {}}, ['data.tagged.kind is missing: give "circle" or "square"']),
        ({"shape": {"kind": "square", "side": "x"}}, ['data.shape.side is "x": give a whole number']),
        ({"shape": 1}, ["data.shape is 1: give an object (Circle), an object (Square), or null"]),
        ({"tree": {"children": [{"children": 5}]}}, ["data.tree.children[0].children is 5: give a list, {}"]),
        ([], ["data is []: give an object (Data)"]),
    ],
    ids=str,
)
def test_problem_names_place_value_and_what_is_accepted(data: Any, problems: list[str]) -> None:
    ends = "that matches ^[a-z]+$" if "text" in str(problems) else "each an object (Node)"
    assert data_problems(SCHEMA, data) == list(dict.fromkeys(problem.format(ends) for problem in problems))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"text": "abc", "flag": False, "share": 0, "even": 4.0, "maybe": None, "day": "2030-01-31", "colour": "blue"},
        {"when": "2030-01-31T08:00:00.5+02:00", "uuid": "123e4567e89b12d3a456426614174000", "more": 1},
        {"tagged": {"kind": "square", "side": 1}, "shape": {"kind": "circle", "radius": 0.5}},
        {"tree": {"children": [{}, {"children": [{}]}]}, "pair": [1, "x"]},
        # Letters as Rust's patterns name them, which Python's can't: left to the worker.
        {"letters": "5"},
    ],
    ids=str,
)
def test_good_data_has_no_problem(data: dict[str, Any]) -> None:
    assert data_problems(SCHEMA, data) == []
    check_data(data, [SCHEMA])


def test_every_missing_field_is_named_once() -> None:
    assert data_problems(REQUIRED, {}) == [
        "data.to is missing: give a list, each text",
        "data.n is missing: give a whole number, or null",
        "data.other is missing: give a value",
    ]


def test_check_raises_every_problem_at_once() -> None:
    with pytest.raises(InvalidDataError) as raised:
        check_data({"n": "x", "to": 5}, [REQUIRED, {"required": ["more"]}])
    assert isinstance(raised.value, InvalidInputError)
    assert raised.value.problems == [
        "data.other is missing: give a value",
        'data.n is "x": give a whole number, or null',
        "data.to is 5: give a list, each text",
    ]


def test_data_that_one_release_accepts_is_accepted() -> None:
    for schemas in ([], [REQUIRED, ANY_OBJECT], [REQUIRED, {"properties": {"n": {"const": "x"}}}]):
        check_data({"n": "x", "to": 5}, schemas)


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        ({"properties": {"key": {"type": "integer"}}}, "data.key is hidden: give a whole number"),
        ({"properties": {"key": {"enum": ["a"]}}}, 'data.key is hidden: give "a"'),
        ({"properties": {"key": {"anyOf": [{"type": "null"}]}}}, "data.key is hidden: give null"),
        ({"properties": {"key": {"not": {"type": "string"}}}}, "data.key is hidden: it does not do as not says"),
        ({"properties": {"key": False}}, "data is hidden: nothing is accepted here"),
        ({"not": {"type": "object"}}, 'data is {"n": 5, "key": "hidden"}: it does not do as not says'),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, 'data is {"n": 5, "key": "hidden"}: give a value'),
        ({"properties": {"n": {"type": "string"}}}, "data.n is 5: give text"),
    ],
    ids=str,
)
def test_hidden_values_are_in_no_sentence(schema: dict[str, Any], sentence: str) -> None:
    assert data_problems(schema, {"n": 5, "key": "tiger-4711"}, {"key"}) == [sentence]


def test_long_values_are_cut() -> None:
    (problem,) = data_problems(SCHEMA, {"flag": "x" * 1000})
    assert problem == f'data.flag is "{"x" * 58}…: give true or false'


@pytest.mark.parametrize(
    "schema",
    [
        ANY_OBJECT,
        {},
        {"type": "banana"},
        {"properties": {"a": {"minimum": "x"}}},
        {"properties": {"a": {"pattern": "("}}},
        {"$ref": "#/$defs/nowhere"},
        {"properties": 5},
    ],
    ids=str,
)
def test_schema_that_is_wrong_itself_refuses_nothing(schema: dict[str, Any]) -> None:
    assert data_problems(schema, {"a": 1}) == []
    assert data_problems(schema, {"a": "("}) == []


def test_what_a_schema_refers_to_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert data_problems({"$ref": "http://schemas.example/job.json"}, {"a": 1}) == []


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "a value"),
        ({"const": 5}, "5"),
        ({"enum": ["a"]}, '"a"'),
        ({"enum": ["a", 1, None]}, '"a", 1 or null'),
        ({"type": "string", "minLength": 1}, "text of at least 1 character"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "boolean"}}}, "true or false"),
        ({"$ref": "#"}, "a value"),
    ],
    ids=str,
)
def test_description_of_a_schema(schema: dict[str, Any], words: str) -> None:
    assert describe(schema) == words

"""Job types: options, arguments, descriptions, and where they are found."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from tests.support import typed_jobs
from tests.support.factories import running_job
from workerjobs import InvalidInputError, JobContext, RetryPolicy, job
from workerjobs.domain.data_schema import ANY_OBJECT
from workerjobs.errors import InvalidDataError
from workerjobs.jobs import registry
from workerjobs.jobs.arguments import MAX_PROBLEMS, Arguments, JobDefinitionError
from workerjobs.jobs.registry import JobOptions, Registry, UnknownJobTypeError, with_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel as OnlyForCheckers

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def known_types() -> Iterator[None]:
    """Job types that a test makes are gone after it."""
    before = dict(registry._decorated)
    yield
    registry._decorated.clear()
    registry._decorated.update(before)


# --- options


def test_options_are_kept_with_the_type() -> None:
    retry = RetryPolicy(5, initial_delay_ms=100)

    @job("full", isolation="fresh", memory_mib=256, timeout_seconds=1.5, concurrency=3, retry=retry)
    def full(data: dict[str, Any]) -> None: ...

    @job("retried", retry=2)
    def retried(data: dict[str, Any]) -> None: ...

    known = Registry()
    assert known.find("full").options == JobOptions(
        isolation="fresh", memory_mib=256, timeout_seconds=1.5, concurrency=3, retry=retry
    )
    assert known.find("retried").options.retry == RetryPolicy(2)
    assert known.find("removeOldWorkerJobs").options == JobOptions()
    with pytest.raises(UnknownJobTypeError):
        known.find("nobody's")


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("isolation", "cold", 'isolation is \'cold\': give "warm" or "fresh"'),
        ("memory_mib", 31, "memory_mib is 31: give a whole number of MiB from 32 to 1048576"),
        ("memory_mib", 256.0, "memory_mib is 256.0: give"),
        ("memory_mib", True, "memory_mib is True: give"),
        ("timeout_seconds", 0, "timeout_seconds is 0: give seconds from 0.001 to 2147483"),
        ("timeout_seconds", math.nan, "timeout_seconds is nan: give"),
        ("timeout_seconds", "30", "timeout_seconds is '30': give"),
        ("concurrency", 0, "concurrency is 0: give a whole number from 1 to 1000000"),
        ("retry", -1, "retry.limit is -1: give a whole number from 0 to 1000000"),
        ("retry", True, "retry is True: give a number of retries or a RetryPolicy"),
        ("retry", RetryPolicy(1, factor=0), "retry.factor is 0: give a number from 1 to 1000"),
    ],
)
def test_option_that_is_not_accepted_is_named(option: str, value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match="@job") as raised:
        job("any", **{option: value})
    assert str(raised.value).startswith(f"@job('any'): {sentence}")


def test_all_options_that_are_not_accepted_are_named() -> None:
    with pytest.raises(ValueError, match=r"isolation is .*; memory_mib is .*; concurrency is "):
        job("any", isolation="cold", memory_mib=1, concurrency=0)  # type: ignore[arg-type]


def test_options_hold_for_jobs_that_say_nothing_themselves() -> None:
    options = JobOptions(timeout_seconds=1.5, retry=RetryPolicy(4, initial_delay_ms=100, factor=3, max_delay_ms=900))
    filled = with_defaults(running_job(), options)
    assert filled.timeout_ms == 1500
    assert (filled.retry_limit, filled.retry_initial_delay_ms) == (4, 100)
    assert (filled.retry_factor, filled.retry_max_delay_ms) == (3, 900)
    own = running_job(timeout_ms=10, retry_limit=0)
    assert with_defaults(own, options) == own
    for_ever = running_job(timeout_ms=10, auto_reschedule_on_failure=True)
    assert with_defaults(for_ever, options) == for_ever
    assert with_defaults(own, JobOptions()) is own


# --- arguments


def parse(function: Any, data: Any) -> Any:
    return Arguments(function).parse(json.dumps(data))


def problems(function: Any, data: Any) -> list[str]:
    with pytest.raises(InvalidDataError) as raised:
        parse(function, data)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    return raised.value.problems


GOOD = {"to": ["a@b"], "when": "2030-01-31T08:00:00Z"}


def test_data_is_parsed_into_the_model() -> None:
    report = parse(typed_jobs.send_report, GOOD)
    assert isinstance(report, typed_jobs.Report)
    assert (report.to, report.when.year, report.copies) == (["a@b"], 2030, 1)
    assert parse(typed_jobs.area, {"kind": "square", "side": 2}) == typed_jobs.Square(kind="square", side=2)


def test_data_without_a_model_stays_a_dict() -> None:
    def untyped(data): ...  # type: ignore[no-untyped-def]

    def mapping(data: Mapping[str, Any]) -> None: ...

    def alternatives(data: dict[str, Any] | None) -> None: ...

    def everything(*arguments: Any) -> None: ...

    for function in (untyped, mapping, alternatives, everything, typed_jobs.plain, lambda: None):
        assert parse(function, GOOD) == GOOD
        assert Arguments(function).schema == ANY_OBJECT


def test_problems_have_the_words_of_the_schema() -> None:
    assert problems(typed_jobs.send_report, {"to": [5], "copies": 0}) == [
        "data.when is missing: give a moment such as 2030-01-31T08:00:00Z",
        "data.copies is 0: give a whole number of at least 1",
        "data.to[0] is 5: give text",
    ]
    assert problems(typed_jobs.area, {"kind": "star"}) == ['data.kind is "star": give "circle" or "square"']


def test_problems_that_only_a_validator_finds_have_its_words() -> None:
    assert problems(typed_jobs.send_report, GOOD | {"to": ["a@b", "c"]}) == [
        'data.to is ["a@b", "c"]: every address needs an @'
    ]
    assert problems(typed_jobs.send_report, GOOD | {"to": ["c"], "copies": 0}) == [
        "data.copies is 0: give a whole number of at least 1",
        'data.to is ["c"]: every address needs an @',
    ]

    class Span(BaseModel):
        start: int
        end: int

        @model_validator(mode="after")
        def _ends_after_it_starts(self) -> Span:
            if self.end <= self.start:
                raise ValueError("The end must come after the start")
            return self

    def between(span: Span) -> None: ...

    between.__annotations__["span"] = Span
    assert problems(between, {"start": 2, "end": 1}) == [
        'data is {"start": 2, "end": 1}: the end must come after the start'
    ]


def test_strict_model_takes_what_json_can_say() -> None:
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True, extra="forbid")
        when: datetime

    def at(data: Any) -> None: ...

    at.__annotations__["data"] = Strict
    assert parse(at, {"when": "2030-01-31T08:00:00Z"}).when.year == 2030
    assert problems(at, {"when": "2030-01-31T08:00:00Z", "whn": 1}) == ["data: unknown field 'whn': did you mean when?"]


def test_secrets_are_not_shown() -> None:
    class Login(BaseModel):
        password: SecretStr = Field(min_length=8)
        pin: SecretStr | None = None

        @field_validator("pin")
        @classmethod
        def _is_no_birthday(cls, value: SecretStr) -> SecretStr:
            raise ValueError("birthdays are guessed")

    def log_in(data: Any) -> None: ...

    log_in.__annotations__["data"] = Login
    assert problems(log_in, {"password": "hunter2", "pin": "3112"}) == [
        "data.password is hidden: give text of at least 8 characters",
        "data.pin is hidden: birthdays are guessed",
    ]
    assert "data.pin is hidden: give text or null" in problems(log_in, {"password": "hunter22", "pin": 3112})


def test_many_problems_are_counted() -> None:
    class Numbers(BaseModel):
        n: list[int]

    def add(data: Any) -> None: ...

    add.__annotations__["data"] = Numbers
    found = problems(add, {"n": ["x"] * 25})
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1] == "and 15 more"


def test_validators_own_mistake_is_no_problem_of_the_data() -> None:
    class Broken(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def _fail(cls, value: int) -> int:
            raise KeyError("a mistake in the validator")

    def fail(data: Any) -> None: ...

    fail.__annotations__["data"] = Broken
    with pytest.raises(KeyError, match="a mistake in the validator"):
        parse(fail, {"a": 1})


def test_annotation_that_is_not_there_at_run_time_is_named() -> None:
    def send(data: OnlyForCheckers) -> None: ...

    with pytest.raises(JobDefinitionError) as raised:
        parse(send, {})
    assert "the annotation OnlyForCheckers of its data can't be read (name 'OnlyForCheckers' is not defined)" in str(
        raised.value
    )


def test_context_is_given_to_functions_that_take_it() -> None:
    def with_context(data: Any, context: JobContext) -> None: ...

    assert Arguments(with_context).takes_context
    assert Arguments(lambda *arguments: None).takes_context
    assert not Arguments(lambda data: None).takes_context
    assert not Arguments(lambda data, *, more=None: None).takes_context


# --- descriptions


def test_type_is_described_with_schema_and_options() -> None:
    described = Registry().descriptions()["sendReport"]
    assert described.where == "tests.support.typed_jobs:send_report"
    assert described.description == "Send a report."
    assert described.schema == typed_jobs.Report.model_json_schema()
    assert described.options.memory_mib == 256
    assert Registry().descriptions()["sendReportAsync"].description == ""


def test_type_without_a_model_is_described_too() -> None:
    described = Registry().descriptions()
    assert described["plain"].schema == {"type": "object"}
    # Its module is imported when its first job runs.
    assert described["removeOldWorkerJobs"].where == "workerjobs.jobs.prune:remove_old_worker_jobs"
    loaded = Registry().descriptions(load=True)["removeOldWorkerJobs"]
    assert loaded.description.startswith("Delete finished jobs")


def test_type_that_can_not_be_described_costs_no_other() -> None:
    class Odd(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thread: subprocess.Popen[bytes] | None = None

    @job("odd")
    def odd(data: Any) -> None: ...

    odd.__annotations__["data"] = Odd

    @job("unreadable")
    def unreadable(data: OnlyForCheckers) -> None: ...

    known = Registry()
    described = known.descriptions()
    assert described["odd"].schema == ANY_OBJECT
    assert described["unreadable"].schema == ANY_OBJECT
    assert "sendReport" in described
    assert isinstance(known.failures["unreadable"], JobDefinitionError)


def test_data_is_checked_where_the_function_is_known() -> None:
    known = Registry()
    known.check("sendReport", GOOD)
    known.check("plain", {"anything": 1})
    with pytest.raises(InvalidInputError, match="every address needs an @"):
        known.check("sendReport", GOOD | {"to": ["x"]})
    with pytest.raises(InvalidInputError, match=r"^Unknown job type: sendReprt: did you mean sendReport\?$"):
        known.check("sendReprt", GOOD)
    with pytest.raises(InvalidInputError, match=r"^Unknown job type: zzz: known are .*removeOldWorkerJobs"):
        known.check("zzz", {})


# --- where types are found


def write(file: Path, job_type: str, more: str = "") -> Path:
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text(f"{more}\nfrom workerjobs import job\n\n@job({job_type!r})\ndef run(data):\n    return __file__\n")
    return file


def imported(*modules: str | Path) -> Registry:
    known = Registry([str(each) for each in modules])
    known.import_modules()
    return known


def test_folder_gives_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    orders = write(folder / "orders.py", "order", more="from prices import PRICE\nfrom _helper import HELP")
    # Imported by orders.py as well: the same function under two module names is no conflict.
    write(folder / "prices.py", "price", more="PRICE = 5")
    write(folder / "_helper.py", "helper", more="HELP = 1").write_text("HELP = 1")
    broken = write(folder / "broken.py", "never", more="raise RuntimeError('no licence')")
    write(folder / "deeper" / "more.py", "deeper")
    known = imported(folder)
    assert {"order", "price"} <= set(known.types())
    assert not {"helper", "never", "deeper"} & set(known.types())
    assert list(known.failures) == [str(broken)]
    assert known.find("order").function({}) == str(orders)
    assert known.descriptions()["order"].where == f"{orders}:run"


def test_folder_may_be_named_without_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "bare_folder" / "orders.py", "bareOrder")
    assert "bareOrder" in imported("bare_folder").types()


def test_package_named_like_a_folder_stays_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "shop_package" / "__init__.py", "ofThePackage")
    write(tmp_path / "shop_package" / "orders.py", "notAskedFor")
    types = imported("shop_package").types()
    assert "ofThePackage" in types
    assert "notAskedFor" not in types


def test_folder_without_files_is_named(tmp_path: Path) -> None:
    known = imported(tmp_path, f"{tmp_path}/nowhere/")
    assert {name: str(error) for name, error in known.failures.items()} == {
        str(tmp_path): f"there is no folder {tmp_path} with .py files",
        f"{tmp_path}/nowhere/": f"there is no folder {tmp_path}/nowhere/ with .py files",
    }


def test_two_files_of_one_name_do_not_hide_each_other(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a" / "jobs.py", "one"), write(tmp_path / "b" / "jobs.py", "two")
    known = imported(one, two)
    assert (known.find("one").function({}), known.find("two").function({})) == (str(one), str(two))
    third = write(tmp_path / "c" / "jobs.py", "one")
    known = imported(third)
    assert str(known.failures[str(third)]) == f"Two functions for the job type 'one': {one}:run, {third}:run"


# --- what is imported


def test_children_load_neither_the_command_line_nor_its_colours() -> None:
    program = """
import sys
import workerjobs.worker.nursery
print(sorted({"rich", "structlog", "typer", "psycopg", "prometheus_client"} & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


@pytest.mark.parametrize("module", ["workerjobs.worker.nursery", "workerjobs.cli.commands", "workerjobs.manager"])
def test_no_process_loads_what_only_typed_jobs_need(module: str) -> None:
    program = f"""
import sys
import {module}
from workerjobs.jobs.registry import Registry

registry = Registry(["workerjobs.jobs.samples", {str(ROOT / "docs/examples/shop_jobs.py")!r}])
registry.import_modules()
assert "priceOrder" in registry.descriptions() and not registry.failures
registry.find("priceOrder").arguments.parse("{{}}")
print([name for name in ("pydantic", "jsonschema", "referencing") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"

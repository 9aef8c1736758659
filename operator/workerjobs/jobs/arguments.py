"""How a job's function takes its data: as the dict that it is, or parsed into a pydantic model.

Importing pydantic takes some 100 ms. It happens here only for functions with a model, whose own module has imported it.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Collection
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args, get_origin

from workerjobs.domain.data_schema import ANY_OBJECT, Schema, data_problems, holds_secret, place, shown
from workerjobs.domain.json_text import decode_json
from workerjobs.errors import InvalidDataError, WorkerJobsError
from workerjobs.jobs.modules import FILE_MODULE_PREFIX

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

_NAMES_OF_DICTS = ("Any", "Mapping", "MutableMapping", "Dict", "typing.")
"""What a module may import for type checkers alone, as no job needs it at run time."""
MAX_PROBLEMS = 10
"""So many problems of one job's data are named; the others are counted."""


class JobDefinitionError(WorkerJobsError):
    """A job's function is not written as it has to be."""


class Arguments:
    """What a job's function is called with.

    Args:
        function: Its first parameter is given the data, a second one the context. The data is parsed where the first
            is annotated with a pydantic model, or a union of models.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        parameters = list(inspect.signature(function).parameters.values())
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._first = positional[0] if positional else None
        self.takes_context = len(positional) >= 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
        """Whether the function is given a context beside the data."""

    def parse(self, data_json: str, hidden: Collection[str] = ()) -> Any:
        """Parse a job's data as the function wants it.

        Args:
            data_json: The data.
            hidden: Fields whose values no sentence shows.

        Raises:
            InvalidDataError: The data is not what the function takes.
        """
        if self._adapter is None:
            return decode_json(data_json)
        from pydantic import ValidationError

        try:
            # From JSON and not from Python: a strict model, too, takes a moment that is written as text.
            return self._adapter.validate_json(data_json)
        except ValidationError as error:
            refusal = InvalidDataError(_limited(_problems_of(error, self.schema, json.loads(data_json), hidden)))
        # Outside of the handler, so that pydantic's own, long error is not reported along with it.
        raise refusal

    @cached_property
    def schema(self) -> Schema:
        """The JSON Schema of the data; any object where the function does not say."""
        if self._adapter is None:
            return ANY_OBJECT
        from pydantic.errors import PydanticUserError

        try:
            return self._adapter.json_schema()
        except PydanticUserError:
            # A field of a type that no schema describes; what is parsed is checked all the same.
            return ANY_OBJECT

    @cached_property
    def _adapter(self) -> TypeAdapter[Any] | None:
        annotation = self._annotation()
        if not _is_model(annotation):
            return None
        from pydantic import TypeAdapter

        return TypeAdapter(annotation)

    def _annotation(self) -> Any:
        """The first parameter's annotation; that alone, as others may name what is imported for type checkers only."""
        annotation = inspect.Parameter.empty if self._first is None else self._first.annotation
        if not isinstance(annotation, str):
            return annotation
        function = inspect.unwrap(self._function)
        names = dict(getattr(function, "__globals__", {}))
        if inspect.isfunction(function):
            names |= inspect.getclosurevars(function).nonlocals
        try:
            return eval(annotation, names)  # noqa: S307  # written by the function's author, as Python's own get_type_hints
        except (NameError, TypeError, AttributeError) as error:
            if annotation.startswith(_NAMES_OF_DICTS):
                return dict
            raise JobDefinitionError(
                f"{place_of(self._function)}: the annotation {annotation} of its data can't be read ({error}): "
                "define or import it at the top of the module, and not for type checkers alone"
            ) from None


def _is_model(annotation: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    if pydantic is None:
        return False
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return issubclass(annotation, pydantic.BaseModel)
    return any(_is_model(each) for each in get_args(annotation))


def _problems_of(error: ValidationError, schema: Schema, data: object, hidden: Collection[str]) -> list[str]:
    """Put pydantic's findings in the words that other doors use; its own are left for what no schema can say."""
    problems = data_problems(schema, data, hidden)
    for each in error.errors(include_url=False):
        is_validators_own = each["type"] in ("value_error", "assertion_error")
        if is_validators_own or not problems:
            text = each["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            # A validator of the whole model is given all of the data.
            is_hidden = holds_secret(schema) or (
                bool(hidden) and each["loc"][:1] in ((), *((name,) for name in hidden))
            )
            value = "hidden" if is_hidden else shown(each["input"])
            problems.append(f"{place(each['loc'])} is {value}: {text[:1].lower()}{text[1:]}")
    return problems


def _limited(problems: list[str]) -> list[str]:
    if len(problems) <= MAX_PROBLEMS:
        return problems
    return [*problems[:MAX_PROBLEMS], f"and {len(problems) - MAX_PROBLEMS} more"]


def place_of(function: Callable[..., Any]) -> str:
    """Name a function as "module:function", or "file:function" where its module was imported from a file's path."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is not None and function.__module__.startswith(FILE_MODULE_PREFIX):
        return f"{code.co_filename}:{name}"
    return f"{function.__module__}:{name}"

"""Rows as structs, made in C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from psycopg.rows import RowMaker

Row = TypeVar("Row", bound=msgspec.Struct)


def struct_row(struct: type[Row]) -> Callable[[Any], RowMaker[Row]]:
    """A row factory for statements whose columns are a struct's fields, in their order."""

    def factory(cursor: Any) -> RowMaker[Row]:
        names = tuple(column.name for column in cursor.description or ())
        if names and names != struct.__struct_fields__:
            raise TypeError(f"the columns {names} are not the fields of {struct.__name__}")

        def make(values: Sequence[Any]) -> Row:
            return struct(*values)

        return make

    return factory

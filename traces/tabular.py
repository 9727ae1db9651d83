"""Columns with names, and their way into the data frame of the reader's choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal

import orjson

from rejoule.traces.errors import RejouleError

Columns = Mapping[str, Sequence[Any]]
"""Values by the name of their column, all of one length; ``None`` is what is not known."""


class Tabular(ABC):
    """Something that is a table, too."""

    __slots__ = ()

    @abstractmethod
    def columns(self) -> Columns:
        """The table, column by column; units are in the names."""

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``. Raises RejouleError without pandas."""
        return _frame(self.columns(), "pandas")

    def to_polars(self) -> Any:
        """A ``polars.DataFrame``. Raises RejouleError without Polars."""
        return _frame(self.columns(), "polars")


def columns_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns, in the order in which names first come; what a row lacks is ``None``."""
    listed = list(rows)
    names = dict.fromkeys(name for row in listed for name in row)
    return {name: _of_one_type([row.get(name) for row in listed]) for name in names}


def _of_one_type(values: list[Any]) -> list[Any]:
    """Lists and mappings, and values of mixed types, as text: a data frame's column has one type."""
    types = {type(value) for value in values if value is not None}
    if types <= {int, float} or (len(types) == 1 and types < {bool, str}):
        return values
    return [value if value is None or isinstance(value, str) else orjson.dumps(value).decode() for value in values]


def _frame(columns: Columns, library: Literal["pandas", "polars"]) -> Any:
    import narwhals

    try:
        import_module(library)
    except ImportError:
        raise RejouleError(f"{library} is not installed", f"install it: pip install {library}") from None
    return narwhals.from_dict(columns, backend=library).to_native()

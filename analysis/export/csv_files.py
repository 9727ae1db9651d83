"""CSV: a file a table, and one of notes."""

from __future__ import annotations

import csv
import io
from typing import Any, Final

from rejoule.analysis.export.exported import Exported, Source
from rejoule.analysis.export.tables import notes, tables
from rejoule.traces.tabular import Columns

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes text that begins so for a formula; an apostrophe in front keeps it text."""


def export(source: Source) -> Exported:
    """What is not known is an empty field."""
    made = tables(source)
    said = notes(source)
    if any(_is_formula(v) for columns in made.values() for values in columns.values() for v in values):
        said = (*said, "an apostrophe stands before text that a spreadsheet would take for a formula")
    empty = [name for name, columns in made.items() if not columns]
    said = (*said, *(f"{name}.csv is left out: these runs have none" for name in empty))
    files = {f"{name}.csv": _csv(columns) for name, columns in made.items() if columns}
    return Exported(files | {"notes.txt": "".join(f"{note}\n" for note in said).encode()}, said)


def _csv(columns: Columns) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(map(_field, row))
    return out.getvalue().encode()


def _field(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if _is_formula(value) else value


def _is_formula(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(FORMULA)

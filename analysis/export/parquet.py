"""Parquet: a file a table, by pyarrow; the notes are in each file's metadata."""

from __future__ import annotations

from typing import Any

import orjson

from rejoule.analysis.export.exported import Exported, Source
from rejoule.analysis.export.tables import notes, tables
from rejoule.traces.errors import RejouleError


def export(source: Source) -> Exported:
    """What is not known is null. Raises RejouleError without pyarrow."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise RejouleError(
            "pyarrow is not installed", "install it: pip install 'rejoule[parquet]', or export --to csv"
        ) from None
    made, said = tables(source), notes(source)
    said = (*said, *(f"{name}.parquet is left out: these runs have none" for name, found in made.items() if not found))
    files = {}
    for name, columns in made.items():
        if not columns:
            continue
        # A column of nothing but unknowns has no type of its own.
        table: Any = arrow.table(
            {
                key: arrow.array(values, None if any(v is not None for v in values) else arrow.float64())
                for key, values in columns.items()
            }
        ).replace_schema_metadata({"rejoule.notes": orjson.dumps(said)})
        out = arrow.BufferOutputStream()
        parquet.write_table(table, out, compression="zstd")
        files[f"{name}.parquet"] = out.getvalue().to_pybytes()
    return Exported(files, said)

"""The formats by name; each is loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from rejoule.analysis.export.exported import Exported, Source

FORMATS: Final[Mapping[str, str]] = {
    "perfetto": "perfetto",
    "parquet": "parquet",
    "csv": "csv_files",
    "markdown": "markdown",
    "svg": "svg_files",
    "png": "png_files",
    "evidence": "evidence_file",
}
"""Their modules, each with ``export(source)``."""


def exported(source: Source, to: str) -> Exported:
    """Raises RejouleError where a format needs what is not installed, or the runs have nothing for it."""
    found: Exported = import_module(f"rejoule.analysis.export.{FORMATS[to]}").export(source)
    return found

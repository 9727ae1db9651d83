"""Writing a GPU's file, and what a terminal is shown of its fit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.table import Table

from rejoule.traces import RejouleError
from rejoule.traces.terminal import console

if TYPE_CHECKING:
    from rejoule.replay.calibration.fit import Errors
    from rejoule.replay.calibration.sizes import GpuCalibration
    from rejoule.replay.sim.shipped import GpuFile


def write_gpu(file: GpuFile, path: Path) -> None:
    """As ``load_profile`` finds it, by ``PATH-MODEL`` without the path's ``.json``."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n")
    except OSError as error:
        raise RejouleError(f"cannot write {path}: {error.strerror}", "choose a folder that you may write to") from error


def print_gpu(found: GpuCalibration, output: Path) -> None:
    out = console()
    parts = {name: msgspec.to_builtins(getattr(found.file, name)) for name in ("timing", "layer", "power")}
    table = Table("constant", "value", "±", box=None, header_style="bold", pad_edge=False)
    for name, error in found.known.items():
        part, _, field = name.partition(".")
        told = "not determined" if name in found.undetermined else f"{100 * error:.1f} %"
        table.add_row(name, f"{parts[part][field]:.4g}", told)
    errors = Table("mean |error|, of the sum", *found.timing, box=None, header_style="bold", pad_edge=False)
    for each in (table, errors):
        for column in each.columns[1:]:
            column.justify = "right"
    for kind in dict.fromkeys(kind for kinds in found.timing.values() for kind in kinds):
        errors.add_row(f"step time, {kind}", *(_share(kinds.get(kind)) for kinds in found.timing.values()))
    if found.power:
        errors.add_row("power", *(_share(found.power[model]) for model in found.timing))
    out.print(table)
    out.print()
    out.print(errors)
    for note in found.notes:
        out.print(f"note: {note}", style="yellow")
    typed = shlex.quote(str(output.with_suffix("")) if output.parent != Path() else f"./{output.stem}")
    click.echo(f"\n{output} is written; use it with any model: rejoule replay TRACE -o RUNS --profile {typed}-MODEL")


def _share(errors: Errors | None) -> str:
    return "–" if errors is None else f"{100 * errors.mape:.1f} %, {100 * errors.total:+.1f} %"

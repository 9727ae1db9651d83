"""What a terminal is shown of fitted constants, and of a quick calibration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from rich.table import Table

from rejoule.traces.terminal import console

if TYPE_CHECKING:
    from rejoule.replay.calibration.calibrate import Calibration
    from rejoule.replay.calibration.child import QuickCalibration
    from rejoule.replay.sim.profile import Profile


def constants(found: Calibration | QuickCalibration, parent: Profile | None = None) -> Table:
    """What was fitted, its relative standard error, and what it was before, if that is told."""
    heads = ("constant", *(() if parent is None else (parent.name,)), "value", "±")
    table = Table(*heads, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, error in found.known.items():
        before = () if parent is None else (_value(parent, name),)
        told = "not determined" if name in found.undetermined else f"{100 * error:.1f} %"
        table.add_row(name, *before, _value(found.profile, name), told)
    return table


def print_child(found: QuickCalibration, output: Path) -> None:
    out = console()
    out.print(constants(found, found.parent))
    heads = ("mean |error| on the cells", "count", found.parent.name, found.profile.name)
    errors = Table(*heads, box=None, header_style="bold", pad_edge=False)
    for column in errors.columns[1:]:
        column.justify = "right"
    for what, (count, before, after) in found.errors.items():
        errors.add_row(what, str(count), f"{100 * before:.1f} %", f"{100 * after:.1f} %")
    out.print()
    out.print(errors)
    for note in found.notes:
        out.print(f"note: {note}", style="yellow")
    click.echo(f"\n{output} is written; use it with: rejoule replay TRACE -o RUNS --profile {output}")


def _value(profile: Profile, name: str) -> str:
    part, _, field = name.partition(".")
    value = msgspec.to_builtins(getattr(profile, part))[field]
    return "–" if value is None else f"{value:.4g}"

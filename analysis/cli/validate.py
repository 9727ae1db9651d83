"""``rejoule validate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rejoule.analysis.cli.reading import FOLDER, load_folder, print_json

if TYPE_CHECKING:
    from rejoule.analysis.validate import Validation

SHOWN = 8
"""Differences of the wrong sign that are listed."""


@click.command()
@click.argument("simulated", metavar="SIM_RUNS", type=FOLDER)
@click.argument("measured", metavar="REAL_RUNS", type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every cell and difference.")
def validate(simulated: Path, measured: Path, as_json: bool) -> None:
    """Say how far SIM_RUNS are from REAL_RUNS, and whether they order configurations alike.

    \b
    rejoule replay T -o SIM --max-num-seqs 1,8,64 --option num_gpu_blocks=40000
    rejoule validate SIM REAL
    """
    from rejoule.analysis import validate as validation

    found = validation.validate(load_folder(simulated).runs, load_folder(measured).runs)
    if as_json:
        print_json(validation.as_json(found))
    else:
        _print(found)


def _print(found: Validation) -> None:
    from rejoule.analysis.cli.console import say, show
    from rejoule.analysis.summary.units import amount, change, percent, signed

    rows = []
    for row in found.rows:
        worst = row.worst
        where = f"{worst.trace}, {worst.configuration}" if worst.configuration else worst.trace
        rows.append((row.metric, str(len(row.cells)), change(row.bias), percent(row.mape), change(worst.error), where))
    show("simulated against measured", ("", "cells", "mean error", "mean |error|", "worst", "where"), rows)
    wrong = [d for d in found.decisive if not d.agrees]
    if wrong:
        units = {row.metric: row.unit for row in found.rows}
        table = [
            (
                d.metric,
                d.trace,
                f"{d.a} → {d.b}",
                signed(d.measured, units[d.metric]),
                f"± {amount(d.noise, units[d.metric])}",
                signed(d.simulated, units[d.metric]),
            )
            for d in sorted(wrong, key=lambda d: -abs(d.measured) / (d.noise or 1e-12))[:SHOWN]
        ]
        more = f"{len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        heads = ("", "trace", "configurations", "measured", "noise", "simulated")
        show("differences of the wrong sign", heads, table, more)
    for note in found.notes:
        say(f"note: {note}", "dim")
    say(found.verdict, "bold")

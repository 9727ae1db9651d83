"""``rejoule sensitivity``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from rejoule.analysis.cli.reading import FOLDER, load_folder, print_json, working

if TYPE_CHECKING:
    from rejoule.analysis.sensitivity import Effect, Sensitivity


@click.command()
@click.argument("runs", type=FOLDER)
@click.option("--figure", default="joules", show_default=True, help="What is moved, as in workflow.p99 or ttft.p50.")
@click.option("--only", multiple=True, metavar="KNOB=VALUE", help="Keep these runs; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a workload.")
def sensitivity(runs: Path, figure: str, only: tuple[str, ...], as_json: bool) -> None:
    """Say which knob moves what in RUNS, by how much, and which moves nothing.

    \b
    rejoule replay T -o RUNS --max-num-seqs 1,8,64 --power-cap 300,500,700
    rejoule sensitivity RUNS
    rejoule sensitivity RUNS --figure workflow.p99
    """
    from rejoule.analysis.cli.console import say
    from rejoule.analysis.pairing import parse_filters, select
    from rejoule.analysis.sensitivity import sensitivities

    folder = load_folder(runs)
    with working("comparing configurations"):
        found = sensitivities(select(folder.runs, parse_filters(only)), folder.traces, figure)
    if as_json:
        print_json({"workloads": [asdict(one) | {"headline": one.headline} for one in found], "method": METHOD})
        return
    for one in found:
        say(one.headline, "bold")
    for note in dict.fromkeys(note for one in found for note in one.notes):
        of = [one.trace for one in found if note in one.notes]
        where = "" if len(of) == len(found) else f"{', '.join(of)}: "
        say(f"note: {where}{note}", "yellow")
    for one in found:
        _print(one)
    say("means over settings of the other knobs; inert: within ±2 % between any two values, at every setting", "dim")


def _print(found: Sensitivity) -> None:
    from rejoule.analysis.cli.console import say, show
    from rejoule.analysis.summary.units import change, percent

    names = [name for name in dict.fromkeys(n for row in found.beside.values() for n in row) if name not in LEFT_OUT]
    rows = []
    for e in found.effects:
        settings = "" if e.settings < 2 or e.least is None else f"{change(e.least)} … {change(e.most)}"
        rows.append(
            (
                f"{e.start} → {e.end}",
                change(e.change),
                settings,
                percent(e.share),
                *(change(found.beside[e.knob].get(name)) for name in names),
                "inert in the model" if e.verdict == "inert" and found.modelled else e.verdict,
            )
        )
    heads = ("", found.figure, "by setting", "share", *(_short(name) for name in names), "verdict")
    show(f"{found.trace}: what moves {found.figure}; energy {found.source}", heads, rows, _caption(found))
    for one in found.interplays:
        say(f"{found.trace}: {one}", "dim")
    for e in found.effects:
        if e.reason is not None:
            say(f"{found.trace}: {e.label}: {e.reason}", "dim")


def _short(name: str) -> str:
    return name.replace("workflow latency ", "workflow ").replace("time to first token ", "first token ")


def _allowed(effect: Effect) -> str | None:
    """What its changes may be off by: the least and the greatest, where those are not one."""
    from rejoule.analysis.summary.units import percent

    if effect.allowance is None:
        return None
    ends = dict.fromkeys(percent(size) for size in (effect.allowance_least, effect.allowance))
    return " to ".join(ends)


def _caption(found: Sensitivity) -> str:
    from rejoule.analysis.summary.units import percent

    words = [f"{found.cells} configurations"]
    if found.noise is not None:
        words.append(f"equal runs leave ±{percent(found.noise)} of a difference open ({found.noise_degrees} degrees)")
    elif found.modelled:
        words.append("equal runs are equal")
        known = [f"{e.label} {size}" for e in found.effects if (size := _allowed(e)) is not None]
        if known:
            words.append(f"moves counts what the model's differences may be off by: {', '.join(known)}")
        if any(e.change is not None and _allowed(e) is None for e in found.effects):
            words.append("where the model's error is not known, verdicts are what it says, not a GPU")
    return "; ".join(words)


LEFT_OUT: Final = ("workflow latency p99",)
"""Figures that only ``--json`` has, for want of room."""
METHOD: Final = {
    "change": "geometric mean, over settings of the other knobs, of cells that differ in this knob alone",
    "share": "Shapley share of the variance of the figure's logarithm over the cells that are there",
    "moves": "some difference is shown: t-test with the spread of equal runs pooled over cells, Bonferroni over them",
    "inert": "every difference is shown to lie within 2 %: two one-sided t-tests each; modelled ones by themselves",
}

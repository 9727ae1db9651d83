"""``rejoule diff``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from rejoule.analysis.cli.reading import FOLDER, load_folder, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rejoule.analysis.diff import Diff, Row, Scope


@click.command()
@click.argument("runs_a", type=FOLDER)
@click.argument("runs_b", type=FOLDER, required=False)
@click.option("--a", "only_a", multiple=True, metavar="KNOB=VALUE", help="Keep these runs of side A; may be repeated.")
@click.option("--b", "only_b", multiple=True, metavar="KNOB=VALUE", help="Keep these runs of side B; may be repeated.")
@click.option(
    "--by",
    type=click.Choice(["workload", "node", "phase"]),
    default="node",
    show_default=True,
    help="What the table of joules is split by.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap.")
@click.option("--allow-different-work", is_flag=True, help="Compare runs whose certificates disagree.")
@click.option("--allow-modelled", is_flag=True, help="Compare modelled joules with measured ones.")
@click.option("--force", is_flag=True, help="Compare joules by node even where the fit is poor.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every row.")
def diff(
    runs_a: Path,
    runs_b: Path | None,
    only_a: tuple[str, ...],
    only_b: tuple[str, ...],
    by: Scope,
    seed: int,
    allow_different_work: bool,
    allow_modelled: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Say what changed between two folders of runs, or two configurations of one, and how sure that is.

    \b
    rejoule diff RUNS --a max_num_seqs=1 --b max_num_seqs=64
    rejoule diff BEFORE AFTER --a power_cap_w=300 --b power_cap_w=300
    """
    from rejoule.analysis.diff import compare
    from rejoule.analysis.pairing import pair, parse_filters, select
    from rejoule.traces.errors import RejouleError

    if runs_b is None and not (only_a and only_b):
        raise RejouleError("one folder needs two configurations", "choose them with --a KNOB=VALUE and --b KNOB=VALUE")
    filters_a, filters_b = parse_filters(only_a), parse_filters(only_b)
    folder_a = load_folder(runs_a)
    folder_b = folder_a if runs_b is None else load_folder(runs_b)
    pairs = pair(
        select(folder_a.runs, filters_a),
        select(folder_b.runs, filters_b),
        allow_different_work=allow_different_work,
        allow_modelled=allow_modelled,
    )
    found = compare(pairs, seed, force)
    if as_json:
        print_json(_diff_json(found))
    else:
        _print_diff(found, by)


def _diff_json(found: Diff) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found) | {"rows": [asdict(row) | {"delta": row.delta} for row in found.rows]}


def _print_diff(found: Diff, by: Scope) -> None:
    from rejoule.analysis.cli.console import say

    for headline in found.headlines:
        say(headline, "bold")
    for note in found.notes:
        say(f"note: {note}", "yellow")
    if (found.a, found.b) != ("A", "B"):
        say(f"A is {found.a}, B is {found.b}", "dim")
    for trace in dict.fromkeys(row.trace for row in found.rows):
        for scope in dict.fromkeys(("workload", by)):
            rows = [row for row in found.of(scope) if row.trace == trace]
            if rows:
                heading = "whole run" if scope == "workload" else f"joules by {scope}"
                source = found.source if found.source.startswith("energy") else f"energy {found.source}"
                _print_rows(f"{trace}: {heading}, {source}", rows)


def _print_rows(title: str, rows: Sequence[Row]) -> None:
    from rich.text import Text

    from rejoule.analysis.cli.console import show
    from rejoule.analysis.diff import MARGIN
    from rejoule.analysis.summary.units import amount, change, interval, signed

    table = []
    for row in rows:
        # A difference below the precision of a double is none.
        delta = row.delta if abs(row.delta) > 1e-9 * max(abs(row.a), abs(row.b)) else 0.0
        table.append(
            (
                row.name,
                amount(row.a, row.unit),
                amount(row.b, row.unit),
                signed(delta, row.unit),
                change(row.change),
                "" if row.interval is None else interval(row.interval.low, row.interval.high),
                Text(_WORDS.get(row.verdict, row.verdict), style=_STYLES[row.verdict]),
            )
        )
    if any(row.deterministic for row in rows):
        trials = f"{max(row.pairs for row in rows)} equal trials, deterministic: no interval"
    elif any(row.interval is not None for row in rows):
        trials = f"{max(row.pairs for row in rows)} paired trials"
    else:
        trials = "one trial: no interval"
    margin = f"{100 * MARGIN:.0f} %"
    meaning = (
        f"same: the interval lies within ±{margin}; unclear: cannot tell"
        if any(row.interval is not None for row in rows)
        else f"same: |Δ| ≤ {margin}"
    )
    if any(map(_by_correction, rows)):
        meaning += "; where 0 lies outside the interval, because so many rows are tested together (Holm's correction)"
    show(title, ("", "A", "B", "Δ", "Δ %", "95 % interval", "verdict"), table, f"{trials}; {meaning}")


def _by_correction(row: Row) -> bool:
    """Whether the verdict is unclear though the row's own interval is not: the correction for all rows took it back."""
    found = row.interval
    return row.verdict == "cannot tell" and found is not None and not found.low <= 0.0 <= found.high


_STYLES: Final = {"less": "green", "more": "red", "no difference": "dim", "cannot tell": "dim"}
_WORDS: Final = {"no difference": "same", "cannot tell": "unclear"}

"""``rejoule diff``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from rejoule.analysis.cli.reading import FOLDER, load_folder, print_json, working

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rejoule.analysis.comparison.row import Row, Scope
    from rejoule.analysis.diff import Diff
    from rejoule.analysis.gate import Judgement


@click.command()
@click.argument("runs_a", type=FOLDER)
@click.argument("runs_b", type=FOLDER, required=False)
@click.option("--a", "only_a", multiple=True, metavar="KNOB=VALUE", help="Keep these runs of side A; may be repeated.")
@click.option("--b", "only_b", multiple=True, metavar="KNOB=VALUE", help="Keep these runs of side B; may be repeated.")
@click.option(
    "--by",
    type=click.Choice(["workload", "node", "agent", "phase"]),
    default="node",
    show_default=True,
    help="What the table of joules is split by.",
)
@click.option("--allow-different-work", is_flag=True, help="Compare runs whose certificates disagree.")
@click.option("--allow-modelled", is_flag=True, help="Compare modelled joules with measured ones.")
@click.option("--allow-rejected", is_flag=True, help="Judge joules of runs that say not to use them.")
@click.option("--force", is_flag=True, help="Compare joules by node even where the fit is poor.")
@click.option(
    "--fail-if",
    "forbidden",
    multiple=True,
    metavar="CONDITION",
    help="End with status 1 if a figure of B is shown to lie beyond a bound, as in 'joules > 3%'; may be repeated.",
)
@click.option("--strict", is_flag=True, help="With --fail-if: end so, too, where it cannot be told.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every row.")
def diff(
    runs_a: Path,
    runs_b: Path | None,
    only_a: tuple[str, ...],
    only_b: tuple[str, ...],
    by: Scope,
    allow_different_work: bool,
    allow_modelled: bool,
    allow_rejected: bool,
    force: bool,
    forbidden: tuple[str, ...],
    strict: bool,
    as_json: bool,
) -> None:
    """Say what changed between two folders of runs, or two configurations of one, and how sure that is.

    \b
    rejoule diff RUNS --a max_num_seqs=1 --b max_num_seqs=64
    rejoule diff BEFORE AFTER --a power_cap_w=300 --b power_cap_w=300
    rejoule diff BEFORE AFTER --fail-if "joules > 3%" --fail-if "workflow.p99 > 5%"
    """
    from rejoule.analysis.diff import compare
    from rejoule.analysis.gate import conditions, judge
    from rejoule.analysis.pairing import in_turns, pair, parse_filters, select
    from rejoule.traces.errors import RejouleError

    if runs_b is None and not (only_a and only_b):
        raise RejouleError("one folder needs two configurations", "choose them with --a KNOB=VALUE and --b KNOB=VALUE")
    wanted = conditions(forbidden)
    if strict and not wanted:
        raise RejouleError("--strict has no condition to be strict about", "give one with --fail-if, or leave it out")
    filters_a, filters_b = parse_filters(only_a), parse_filters(only_b)
    folder_a = load_folder(runs_a)
    folder_b = folder_a if runs_b is None else load_folder(runs_b)
    pairs = pair(
        select(folder_a.runs, filters_a),
        select(folder_b.runs, filters_b),
        allow_different_work=allow_different_work,
        allow_modelled=allow_modelled,
    )
    turns = folder_a is folder_b and in_turns([run.id for run in folder_a.experiment.runs], pairs)
    with working("comparing"):
        found = compare(pairs, force, allow_rejected, turns)
    judged = judge(found, wanted)
    if as_json:
        print_json(_diff_json(found) | ({"conditions": [asdict(one) for one in judged]} if wanted else {}))
    else:
        _print_diff(found, by)
        _print_judged(judged)
    if any(one.outcome == "fails" or (strict and one.outcome == "cannot tell") for one in judged):
        raise click.exceptions.Exit(FAILED)


def _print_judged(judged: Sequence[Judgement]) -> None:
    from rejoule.analysis.cli.console import say

    for one in judged:
        say(str(one), {"fails": "bold red", "passes": "green"}.get(one.outcome, "yellow"))


def _diff_json(found: Diff) -> dict[str, Any]:
    from rejoule.analysis.cli.causes_table import causes_json

    return asdict(found) | {
        "rows": [asdict(row) | {"delta": row.delta} for row in found.rows],
        "causes": [causes_json(each) for each in found.causes],
        "method": METHOD,
    }


def _print_diff(found: Diff, by: Scope) -> None:
    from rejoule.analysis.cli.causes_table import show_causes
    from rejoule.analysis.cli.console import say

    for headline in found.headlines:
        say(headline, "bold")
    for note in found.notes:
        say(f"note: {note}", "yellow")
    if (found.a, found.b) != ("A", "B"):
        say(f"A is {found.a}, B is {found.b}", "dim")
    for trace in dict.fromkeys(row.trace for row in found.rows):
        # Agents stand beside nodes, where there are several.
        for scope in dict.fromkeys(("workload", "workflows", by, *(("agent",) if by == "node" else ()))):
            rows = [row for row in found.of(scope) if row.trace == trace]
            if rows:
                heading = _HEADINGS.get(scope, f"joules by {scope}")
                source = found.source if found.source.startswith("energy") else f"energy {found.source}"
                _print_rows(f"{trace}: {heading}, {source}", rows, found.source.startswith("modelled"))
            elif by == "agent" and any(row.trace == trace for row in found.of("node")):
                say(
                    f"note: {trace} has no joules by agent: its runs do not name several agents on both sides", "yellow"
                )
        for why in found.causes:
            if why.trace == trace:
                show_causes(why, by)
    for sight in found.sights:
        say(f"{sight}", "dim")


def _print_rows(title: str, rows: Sequence[Row], modelled: bool = False) -> None:
    from rich.text import Text

    from rejoule.analysis.cli.console import show
    from rejoule.analysis.summary.units import amount, change, signed

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
                _interval(row),
                Text("rejected" if row.withheld else _WORDS.get(row.verdict, row.verdict), style=_style(row)),
            )
        )
    said = [_evidence(rows), _meaning(rows)]
    if modelled and any(row.allowance is None and row.unit != "tokens" for row in rows):
        said.append("where no interval is, the model's error is not known: verdicts are what it says, not a GPU")
    show(title, ("", "A", "B", "Δ", "Δ %", "95 % interval", "verdict"), table, "; ".join(said))


def _style(row: Row) -> str:
    """Green is better."""
    from rejoule.analysis.summary.summary import METRICS
    from rejoule.analysis.summary.workflows import WORKFLOW_METRICS

    if row.verdict not in ("less", "more"):
        return "dim"
    metrics = {"workload": METRICS, "workflows": WORKFLOW_METRICS}.get(row.scope, ())
    best = "more" if any(m.more_is_better for m in metrics if m.name == row.name) else "less"
    return "green" if row.verdict == best else "red"


def _interval(row: Row) -> str:
    from rejoule.analysis.summary.units import interval, signed

    if row.interval is not None:
        return interval(row.interval.low, row.interval.high)
    if row.delta_interval is not None:
        return f"{signed(row.delta_interval.low, row.unit)} … {signed(row.delta_interval.high, row.unit)}"
    return ""


def _evidence(rows: Sequence[Row]) -> str:
    pairs = {row.pairs for row in rows}
    count = str(max(pairs)) if len(pairs) == 1 else f"{min(pairs)} to {max(pairs)}"
    if any(row.deterministic and row.unit != "tokens" for row in rows):
        return f"{count} equal trials, deterministic: {_room(rows)}"
    if max(pairs) > 1:
        return f"{count} paired trials"
    return f"one trial: {_room(rows)}"


def _room(rows: Sequence[Row]) -> str:
    rooms = dict.fromkeys(row.room for row in rows if row.interval is not None)
    return f"intervals are {' or '.join(rooms)}" if rooms else "no interval"


def _meaning(rows: Sequence[Row]) -> str:
    from rejoule.analysis.comparison.change import MARGIN

    margin = f"{100 * MARGIN:.0f} %"
    if any(row.p is not None for row in rows):
        meaning = (
            f"same: within ±{margin}, by a test of its own; unclear: cannot tell; "
            "of 100 such tables, 95 hold no wrong verdict"
        )
        if any(map(_by_correction, rows)):
            meaning += (
                "; where an interval says more than its verdict, because so many rows are tested together "
                "(Holm's correction)"
            )
        return meaning
    if any(row.interval is not None for row in rows):
        return f"same: the interval lies within ±{margin}; unclear: cannot tell"
    if any(row.verdict == "cannot tell" and row.withheld is None for row in rows):
        return "unclear: one trial shows no spread"
    return f"same: |Δ| ≤ {margin}"


def _by_correction(row: Row) -> bool:
    """Whether the verdict is unclear though the row's own interval is not: the correction for all rows took it back."""
    from rejoule.analysis.comparison.change import MARGIN

    found = row.interval
    if row.verdict != "cannot tell" or row.p is None or found is None:
        return False
    return not found.low <= 0.0 <= found.high or found.within(MARGIN)


FAILED: Final = 1
"""Exit status where a condition of ``--fail-if`` came true; a user's mistake has another."""
METHOD: Final = {
    "interval": "95 %, paired t on log ratios, of each row alone",
    "verdict": "5 % of tables may hold a wrong one: weighted Holm over both claims of all rows of a table",
    "p": "of a change where there is none, adjusted",
    "p_same": "of a change beyond the margin where none is called, adjusted (two one-sided tests)",
    "allowance": "relative error that trials do not show, within interval, p and p_same",
}
_HEADINGS: Final = {"workload": "whole run", "workflows": "workflows"}
_WORDS: Final = {"no difference": "same", "cannot tell": "unclear"}

"""``rejoule energy``, ``rejoule diff`` and ``rejoule report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rejoule.analysis.diff import Diff, Row, Scope
    from rejoule.analysis.energy import Spent, Split
    from rejoule.analysis.methods import Compared
    from rejoule.traces.runs import RunFolder

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("runs", type=FOLDER)
@click.option("--a", "only", multiple=True, metavar="KNOB=VALUE", help="Keep these runs; may be repeated.")
@click.option(
    "--by",
    type=click.Choice(["workload", "node", "phase", "workflow"]),
    default="node",
    show_default=True,
    help="What the joules are split by.",
)
@click.option("--methods", is_flag=True, help="Put the usual ways to split joules by node side by side with this one.")
@click.option("--force", is_flag=True, help="Show joules by node even where the fit is poor.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every configuration.")
def energy(runs: Path, only: tuple[str, ...], by: Split, methods: bool, force: bool, as_json: bool) -> None:
    """Say where the joules of RUNS went: by node, with idle, adding up to the total.

    \b
    rejoule energy RUNS
    rejoule energy RUNS --a max_num_seqs=8 --a power_cap_w=300 --by phase
    rejoule energy RUNS --a max_num_seqs=8 --a power_cap_w=300 --methods
    """
    from rejoule.analysis import energy as energies
    from rejoule.analysis import methods as ways
    from rejoule.analysis.pairing import choices, parse_filters, select
    from rejoule.traces.errors import RejouleError

    everything = _load(runs).runs
    chosen = select(everything, parse_filters(only))
    if methods and by != "node":
        raise RejouleError(f"--methods splits joules by node, not by {by}", "leave out --by, or --methods")
    if methods:
        _methods(ways.side_by_side(chosen, everything), as_json)
        return
    found = energies.spent(chosen, by, everything, force)
    if as_json:
        _print_json({"by": by, "configurations": [energies.as_json(spent) for spent in found]})
        return
    for trace in dict.fromkeys(spent.trace for spent in found):
        mine = [spent for spent in found if spent.trace == trace]
        if len(mine) == 1:
            _print_parts(mine[0], by)
        else:
            free = choices([run for run in chosen if run.trace == trace])
            _print_configurations(mine, f"for its joules by {by}, choose one with --a KNOB=VALUE: {free}")


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
    folder_a = _load(runs_a)
    folder_b = folder_a if runs_b is None else _load(runs_b)
    pairs = pair(
        select(folder_a.runs, filters_a),
        select(folder_b.runs, filters_b),
        allow_different_work=allow_different_work,
        allow_modelled=allow_modelled,
    )
    found = compare(pairs, seed, force)
    if as_json:
        _print_json(_diff_json(found))
    else:
        _print_diff(found, by)


@click.command()
@click.argument("runs", type=FOLDER)
@click.option("-o", "--output", type=FOLDER, default=Path("report.html"), show_default=True)
@click.option("--title", help="Heading of the page.")
@click.option("--force", is_flag=True, help="Write over a file that is not a report.")
@click.option("--json", "as_json", is_flag=True, help="Print path and size as one JSON object.")
def report(runs: Path, output: Path, title: str | None, force: bool, as_json: bool) -> None:
    """Write RUNS as one self-contained page of interactive pictures."""
    from rejoule.analysis.report import file, render
    from rejoule.traces.refused import load_refused

    file.check(output, force)
    folder = _load(runs)
    page = render(folder.runs, folder.traces, folder.experiment, title, load_refused(runs)).encode()
    file.write(output, page)
    if as_json:
        _print_json({"path": str(output), "bytes": len(page)})
    else:
        click.echo(f"{output}  {len(page) / 1e6:.1f} MB")


def _load(path: Path) -> RunFolder:
    from rejoule.traces.errors import RejouleError
    from rejoule.traces.runs import load_runs

    if path.exists() and not path.is_dir():
        raise RejouleError(f"{path} is not a run folder", "make one with: rejoule replay TRACE -o RUNS")
    return load_runs(path)


def _print_json(body: Any) -> None:
    import orjson

    click.echo(orjson.dumps(body).decode())


def _print_parts(spent: Spent, by: Split) -> None:
    from rejoule.analysis.console import say, show
    from rejoule.analysis.units import amount, percent

    title = f"{spent.trace}, {spent.label}: {_total(spent)}, {spent.source}"
    rows = [
        (
            part.name,
            "" if part.prefill_j is None else amount(part.prefill_j, "J"),
            "" if part.decode_j is None else amount(part.decode_j, "J"),
            amount(part.energy_j, "J"),
            "" if part.uncertainty_j is None else f"±{amount(_visible(part.uncertainty_j, part.energy_j), 'J')}",
            percent(part.share),
            "" if part.call_j is None else amount(part.call_j, "J"),
            "" if part.calls is None else str(part.calls),
        )
        for part in spent.parts
    ]
    if not rows:
        click.echo()
        say(title, "bold")
        return
    known = [part for part in spent.parts if part.prefill_j is not None and part.decode_j is not None]
    prefill, decode = (sum(getattr(part, name) for part in known) for name in ("prefill_j", "decode_j"))
    phases = (amount(prefill, "J"), amount(decode, "J")) if known else ("", "")
    rows.append(("total", *phases, amount(spent.gpu_j, "J"), "", percent(1.0), "", str(spent.calls)))
    heads = (by if by != "workload" else "", "prefill", "decode", "joules", "95 %", "share", "J/call", "calls")
    show(title, heads, rows)
    _print_evidence(spent)
    for note in spent.notes:
        say(f"note: {note}", "yellow")


def _print_evidence(spent: Spent) -> None:
    """Components, then what the cap did, the steady state and the conditions, a line each."""
    from rejoule.analysis.console import say, show
    from rejoule.analysis.facts import conditions, control, steady_state
    from rejoule.analysis.units import amount, percent

    found = spent.evidence
    parts = [
        ("GPU", spent.gpu_j, True),
        ("  its core", found.core_j, True),
        ("  its memory (HBM)", found.hbm_j, True),
        ("CPU", found.cpu_j, False),
        ("DRAM", found.dram_j, False),
        ("GPU, net of idle power", found.net_j, True),
    ]
    if any(joules is not None for _, joules, _ in parts[1:]):
        rows = [
            (name, amount(joules, "J"), percent(joules / spent.gpu_j) if within and joules and spent.gpu_j else "")
            for name, joules, within in parts
        ]
        show("by component", ("", "joules", "share"), rows)
    for facts in (control(found), steady_state(found), conditions(found)):
        if facts:
            say("; ".join(f"{name} {value}" for name, value in facts), "dim")


def _methods(found: Sequence[Compared], as_json: bool) -> None:
    from dataclasses import asdict

    from rejoule.analysis.console import say, show
    from rejoule.analysis.methods import METHODS
    from rejoule.analysis.units import amount, percent

    if as_json:
        _print_json({"configurations": [asdict(compared) for compared in found]})
        return
    for compared in found:
        rows = [(row.name, *(amount(row.joules.get(method), "J") for method in METHODS)) for row in compared.rows]
        total = compared.gpu_j
        if total:
            sums = [compared.rows[-1].joules.get(method) for method in METHODS]
            rows.append(("of the total", *(percent(None if joules is None else joules / total) for joules in sums)))
        title = f"{compared.trace}, {compared.label}: {amount(total, 'J')}, by node and by method"
        show(title, ("", *METHODS), rows)
        if compared.withheld:
            say(f"note: {compared.withheld}: do not trust the first column", "yellow")


def _visible(part: float, whole: float) -> float:
    """0 for what is only rounding beside ``whole``."""
    return part if abs(part) > 1e-9 * abs(whole) else 0.0


def _total(spent: Spent) -> str:
    from rejoule.analysis.units import amount

    if spent.trials == 1:
        own = spent.evidence.uncertainty_j
        error = "" if own is None else f" ± {amount(own, 'J')}"
        return f"{amount(spent.gpu_j, 'J')}{error}, one trial"
    spread = f"{spent.trials} trials"
    if spent.interval is not None:
        low, high = amount(spent.interval.low, "J"), amount(spent.interval.high, "J")
        spread += f", 95 % interval {low} to {high}"
    return f"{amount(spent.gpu_j, 'J')}, mean of {spread}"


def _print_configurations(found: Sequence[Spent], choose: str) -> None:
    from rejoule.analysis.console import say, show
    from rejoule.analysis.diff import MARGIN
    from rejoule.analysis.units import amount, percent

    def joules(spent: Spent, name: str) -> float | None:
        return next((part.energy_j for part in spent.parts if part.name == name), None)

    known = [spent.gpu_j for spent in found if spent.gpu_j is not None]
    least, most = min(known, default=0.0), max(known, default=0.0)
    differ = most > least * (1.0 + MARGIN)
    rows = []
    for spent in found:
        shares = [
            "" if spent_j is None or not spent.gpu_j else percent(spent_j / spent.gpu_j)
            for spent_j in (joules(spent, "tool wait"), joules(spent, "idle"))
        ]
        mark = {least: "least", most: "most"}.get(spent.gpu_j or 0.0, "") if differ else ""
        rows.append(
            (
                spent.label,
                amount(spent.gpu_j, "J"),
                *shares,
                amount(spent.gpu_j / spent.calls, "J") if spent.gpu_j is not None and spent.calls else "",
                amount(spent.workflow_p50_s, "s"),
                "" if spent.evidence.net_j is None else amount(spent.evidence.net_j, "J"),
                "" if spent.evidence.in_force_w is None else amount(spent.evidence.in_force_w, "W"),
                "" if spent.evidence.bound_fraction is None else percent(spent.evidence.bound_fraction),
                "" if spent.evidence.sm_clock_mhz is None else amount(spent.evidence.sm_clock_mhz, "MHz"),
                str(spent.trials),
                mark,
            )
        )
    source = ", ".join(dict.fromkeys(spent.source for spent in found))
    evidence = ("net", "in force", "bound", "SM clock")
    heads = ("configuration", "joules", "tool wait", "idle", "J/call", "workflow p50", *evidence, "trials", "")
    show(f"{found[0].trace}: {len(found)} configurations, {source}", heads, rows)
    for spent in found:
        for reason in spent.evidence.rejected:
            say(f"note: {spent.label}: do not use its joules: {reason}", "yellow")
    say(choose, "dim")


def _diff_json(found: Diff) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found) | {"rows": [asdict(row) | {"delta": row.delta} for row in found.rows]}


def _print_diff(found: Diff, by: Scope) -> None:
    from rejoule.analysis.console import say

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

    from rejoule.analysis.console import show
    from rejoule.analysis.diff import MARGIN
    from rejoule.analysis.units import amount, change, interval, signed

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

"""``rejoule energy``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rejoule.analysis.cli.reading import FOLDER, load_folder, print_json, working
from rejoule.analysis.cli.workflows import print_workflows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rejoule.analysis.energy import Extremes, Spent, Split
    from rejoule.analysis.methods import Compared


@click.command()
@click.argument("runs", type=FOLDER)
@click.option("--a", "only", multiple=True, metavar="KNOB=VALUE", help="Keep these runs; may be repeated.")
@click.option(
    "--by",
    type=click.Choice(["workload", "node", "agent", "phase", "workflow"]),
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
    from dataclasses import asdict

    from rejoule.analysis import energy as energies
    from rejoule.analysis import methods as ways
    from rejoule.analysis.pairing import choices, parse_filters, select
    from rejoule.traces.errors import RejouleError

    everything = load_folder(runs).runs
    chosen = select(everything, parse_filters(only))
    if methods and by != "node":
        raise RejouleError(f"--methods splits joules by node, not by {by}", "leave out --by, or --methods")
    if methods:
        _methods(ways.side_by_side(chosen, everything), as_json)
        return
    with working("attributing joules"):
        found = energies.spent(chosen, by, everything, force)
    groups = [[spent for spent in found if spent.trace == name] for name in dict.fromkeys(s.trace for s in found)]
    ends = [energies.extremes(mine, [r for r in chosen if r.trace == mine[0].trace]) for mine in groups]
    if as_json:
        told = [asdict(end) for end, mine in zip(ends, groups, strict=True) if len(mine) > 1]
        print_json({"by": by, "configurations": [energies.as_json(spent) for spent in found], "extremes": told})
        return
    for mine, end in zip(groups, ends, strict=True):
        trace = mine[0].trace
        if len(mine) == 1:
            _print_parts(mine[0], by)
        else:
            free = choices([run for run in chosen if run.trace == trace])
            _print_configurations(mine, end, f"for its joules by {by}, choose one with --a KNOB=VALUE: {free}")


def _print_parts(spent: Spent, by: Split) -> None:
    from rejoule.analysis.cli.console import say, show
    from rejoule.analysis.summary.units import amount, percent

    title = f"{spent.trace}, {spent.label}: {_total(spent)}, {spent.source}"
    bounded = any(part.saved_j is not None for part in spent.parts)
    again = any(part.again_j for part in spent.parts)
    rows = [
        (
            part.name,
            "" if part.prefill_j is None else amount(part.prefill_j, "J"),
            *((_amount(part.again_j),) if again else ()),
            "" if part.decode_j is None else amount(part.decode_j, "J"),
            amount(part.energy_j, "J"),
            "" if part.uncertainty_j is None else f"±{amount(_visible(part.uncertainty_j, part.energy_j), 'J')}",
            percent(part.share),
            "" if part.call_j is None else amount(part.call_j, "J"),
            "" if part.calls is None else str(part.calls),
            *((_amount(part.saved_j), _amount(part.alone_j)) if bounded else ()),
        )
        for part in spent.parts
    ]
    if not rows:
        click.echo()
        say(title, "bold")
        print_workflows([spent])
        _print_notes(spent)
        return
    known = [part for part in spent.parts if part.prefill_j is not None and part.decode_j is not None]
    prefill, decode = (sum(getattr(part, name) for part in known) for name in ("prefill_j", "decode_j"))
    sums = (prefill, *((sum(part.again_j or 0.0 for part in spent.parts),) if again else ()), decode)
    phases = tuple(amount(joules, "J") if known else "" for joules in sums)
    share = percent(1.0)
    bounds = ("without it", "alone") if bounded else ()
    blank = ("",) * len(bounds)
    rows.append(("total", *phases, amount(spent.gpu_j, "J"), "", share, "", str(spent.calls), *blank))
    first: str = by if by != "workload" else ""
    twice = ("again",) if again else ()
    heads = (first, "prefill", *twice, "decode", "joules", "95 %", "share", "J/call", "calls", *bounds)
    show(title, heads, rows, _caption(spent, bounded, again))
    _print_agents(spent)
    _print_evidence(spent)
    print_workflows([spent])
    _print_notes(spent)


def _caption(spent: Spent, bounded: bool, again: bool) -> str:
    words = []
    if again:
        words.append("again: part of prefill, what preemptions had thrown away")
    if any(part.uncertainty_j is not None for part in spent.parts):
        model = ", not of the model's joules" if spent.source.startswith("modelled") else ""
        words.append(f"95 %: of dividing the joules{model}")
    if bounded:
        words.append("without it: what the run would save; alone: what it takes by itself")
    return "; ".join(words)


def _print_notes(spent: Spent) -> None:
    from rejoule.analysis.cli.console import say

    for note in spent.notes:
        say(f"note: {note}", "yellow")


def _print_agents(spent: Spent) -> None:
    from rejoule.analysis.cli.console import show
    from rejoule.analysis.summary.units import percent

    rows = [
        (
            part.name,
            _amount(part.prefill_j),
            _amount(part.decode_j),
            _amount(part.energy_j),
            "" if part.uncertainty_j is None else f"±{_amount(_visible(part.uncertainty_j, part.energy_j))}",
            percent(part.share),
            _amount(part.call_j),
            str(part.calls),
        )
        for part in spent.agents
    ]
    if rows:
        show("by agent", ("agent", "prefill", "decode", "joules", "95 %", "share", "J/call", "calls"), rows)


def _print_evidence(spent: Spent) -> None:
    """Components, then what the cap did, the steady state and the conditions, a line each."""
    from rejoule.analysis.cli.console import say, show
    from rejoule.analysis.summary.facts import conditions, control, steady_state
    from rejoule.analysis.summary.units import amount, percent

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
    _print_gpus(spent)
    for facts in (control(found), steady_state(found), conditions(found)):
        if facts:
            say("; ".join(f"{name} {value}" for name, value in facts), "dim")


def _print_gpus(spent: Spent) -> None:
    from rejoule.analysis.cli.console import show
    from rejoule.analysis.summary.units import amount, percent
    from rejoule.traces.by_gpu import EQUAL

    rows = [
        (gpu.name, amount(gpu.energy_j, "J"), percent(gpu.energy_j / spent.gpu_j), amount(gpu.idle_j, "J"))
        for gpu in spent.gpus
        if spent.gpu_j
    ]
    if rows:
        caption = EQUAL if any(gpu.assumed for gpu in spent.gpus) else ""
        show("by GPU", ("", "joules", "share", "idle + tool wait"), rows, caption)


def _methods(found: Sequence[Compared], as_json: bool) -> None:
    from dataclasses import asdict

    from rejoule.analysis.cli.console import say, show
    from rejoule.analysis.methods import METHODS
    from rejoule.analysis.summary.units import amount, percent

    if as_json:
        print_json({"configurations": [asdict(compared) for compared in found]})
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
    for note in dict.fromkeys(note for compared in found for note in compared.notes):
        say(f"note: {note}", "yellow")


def _amount(joules: float | None) -> str:
    from rejoule.analysis.summary.units import amount

    return "" if joules is None else amount(joules, "J")


def _visible(part: float, whole: float) -> float:
    """0 for what is only rounding beside ``whole``."""
    return part if abs(part) > 1e-9 * abs(whole) else 0.0


def _total(spent: Spent) -> str:
    from rejoule.analysis.summary.units import amount

    if spent.trials == 1:
        own = spent.evidence.uncertainty_j
        error = "" if own is None else f" ± {amount(own, 'J')}"
        return f"{amount(spent.gpu_j, 'J')}{error}, one trial"
    spread = f"{spent.trials} trials"
    if spent.interval is not None:
        low, high = amount(spent.interval.low, "J"), amount(spent.interval.high, "J")
        spread += f", 95 % interval {low} to {high}"
    return f"{amount(spent.gpu_j, 'J')}, mean of {spread}"


def _print_configurations(found: Sequence[Spent], end: Extremes, choose: str) -> None:
    from rejoule.analysis.cli.console import say, show
    from rejoule.analysis.summary.units import amount, percent
    from rejoule.traces.clock_curve import MARKS

    def joules(spent: Spent, name: str) -> float | None:
        return next((part.energy_j for part in spent.parts if part.name == name), None)

    def bound(spent: Spent) -> str:
        return "" if spent.evidence.bound_fraction is None else percent(spent.evidence.bound_fraction)

    rows = []
    for spent in found:
        shares = [
            "" if spent_j is None or not spent.gpu_j else percent(spent_j / spent.gpu_j)
            for spent_j in (joules(spent, "tool wait"), joules(spent, "idle"))
        ]
        mark = {end.least: "least", end.most: "most"}.get(spent.label, "")
        rows.append(
            (
                spent.label,
                mark,
                amount(spent.gpu_j, "J"),
                *shares,
                amount(spent.gpu_j / spent.calls, "J") if spent.gpu_j is not None and spent.calls else "",
                amount(spent.workflow_p50_s, "s"),
                "" if spent.evidence.net_j is None else amount(spent.evidence.net_j, "J"),
                "" if spent.evidence.in_force_w is None else amount(spent.evidence.in_force_w, "W"),
                " ".join(filter(None, (bound(spent), spent.curve))),
                "" if spent.evidence.sm_clock_mhz is None else amount(spent.evidence.sm_clock_mhz, "MHz"),
                str(spent.trials),
            )
        )
    source = ", ".join(dict.fromkeys(spent.source for spent in found))
    evidence = ("net", "in force", "bound", "SM clock")
    heads = ("configuration", "", "joules", "tool wait", "idle", "J/call", "workflow p50", *evidence, "trials")
    show(f"{found[0].trace}: {len(found)} configurations, {source}", heads, rows)
    print_workflows(found)
    if any(spent.curve for spent in found):
        say(MARKS, "dim")
    for note in end.notes:
        say(f"note: {note}", "yellow")
    for spent in found:
        for reason in spent.evidence.rejected:
            say(f"note: {spent.label}: do not use its joules: {reason}", "yellow")
        for caution in spent.cautions:
            say(f"note: {spent.label}: {caution}", "yellow")
    say(choose, "dim")

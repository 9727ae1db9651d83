"""``rejoule advise``."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from rejoule.analysis.cli.reading import FOLDER, load_folder, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rejoule.analysis.advice import Advice, Candidate, Estimate

SHOWN: Final = 10
"""Configurations that the table has, besides those that the advice is about."""


@click.command()
@click.argument("runs", type=FOLDER, nargs=-1, required=True)
@click.option(
    "--slo", multiple=True, metavar="FIGURE=BOUND", help="As in workflow.p99=20s or ttft.p50=500ms; repeated."
)
@click.option(
    "--least", metavar="FIGURE", default="joules.workflow", show_default=True, help="Or joules.success: what is least."
)
@click.option("--power", metavar="WATTS", help="Most mean power of the GPUs, as in 400W.")
@click.option("--joules", metavar="JOULES", help="Most joules a workflow, as in 300J.")
@click.option("--consider", multiple=True, metavar="KNOB=V1,V2", help="Further values of a knob to think of; repeated.")
@click.option("--today", multiple=True, metavar="KNOB=VALUE", help="The configuration in use, to count savings from.")
@click.option("--only", multiple=True, metavar="KNOB=VALUE", help="Keep these runs; may be repeated.")
@click.option("--confirm", type=click.IntRange(0), default=3, show_default=True, help="Cells to name for running next.")
@click.option("--write", type=click.Path(path_type=Path), help="Write the cells to run next as an experiment file.")
@click.option("--trials", type=click.IntRange(1), default=1, show_default=True, help="Of that file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every configuration.")
def advise(
    runs: tuple[Path, ...],
    slo: tuple[str, ...],
    least: str,
    power: str | None,
    joules: str | None,
    consider: tuple[str, ...],
    today: tuple[str, ...],
    only: tuple[str, ...],
    confirm: int,
    write: Path | None,
    trials: int,
    as_json: bool,
) -> None:
    """Say which configuration in RUNS takes the least joules and keeps an objective, how sure, and what to run next.

    \b
    rejoule advise RUNS --slo workflow.p99=20s --power 400W
    rejoule advise RUNS --slo success=90% --least joules.success
    rejoule advise RUNS --slo ttft.p50=500ms --consider max_num_seqs=2,4,16 --write next.toml
    rejoule run next.toml -o MORE && rejoule advise RUNS MORE --slo ttft.p50=500ms
    """
    from rejoule.analysis.advice import advise as advised
    from rejoule.analysis.advice import least as least_of
    from rejoule.analysis.advice import objectives
    from rejoule.analysis.advice.file import experiment
    from rejoule.analysis.pairing import parse_filters, parse_values, select
    from rejoule.analysis.summary.cells import gather
    from rejoule.traces.errors import RejouleError

    budgets = [f"{figure}={bound}" for figure, bound in (("power", power), ("joules.workflow", joules)) if bound]
    wanted, of = objectives([*slo, *budgets]), least_of(least)
    folders = [load_folder(path) for path in runs]
    chosen = select([run for folder in folders for run in folder.runs], parse_filters(only))
    traces = {name: trace for folder in folders for name, trace in folder.traces.items()}
    found = advised(
        gather(chosen, traces),
        wanted,
        parse_values(consider),
        today,
        confirm,
        of,
    )
    if write is not None:
        if len(found) > 1:
            names = ", ".join(one.trace for one in found)
            raise RejouleError("an experiment file is of one workload", f"choose one with --only trace=NAME: {names}")
        write.write_text(experiment(found[0], found[0].confirm, runs[0] / "traces", trials, write.name))
    if as_json:
        print_json({"workloads": [_json(one) for one in found], "method": METHOD})
        return
    for one in found:
        _print(one)
    if write is not None:
        typed = shlex.quote(str(write))
        click.echo(f"{write} is written: rejoule run {typed} -o MORE, then advise on both folders", err=True)


def _typed(value: Any) -> str:
    """A knob's value as the command line takes it."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(found: Advice) -> dict[str, Any]:
    from rejoule.traces.run import knobs

    return asdict(found) | {"like": knobs(found.like), "headline": found.headline}


def _print(found: Advice) -> None:
    from rejoule.analysis.cli.console import say

    say(found.headline, "bold")
    for note in found.notes:
        say(f"note: {note}", "yellow")
    ran = [c for c in found.candidates if c.kind != "predicted" and c is not found.best]
    if found.best is not None and found.today is None and ran:
        words = shlex.join(w for knob, v in ran[-1].settings.items() for w in ("--today", f"{knob}={_typed(v)}"))
        say(f"{found.trace}: to see what it saves, name the configuration in use, as in {words}", "dim")
    named = [("best", found.best), ("only", found.only), ("today", found.today), ("closest", found.nearest)]
    marks: dict[int, list[str]] = {}
    for word, one in (*named, *(("front", c) for c in found.front), *(("as good?", c) for c in found.rivals)):
        if one is not None:
            marks.setdefault(id(one), []).append(word)
    rest = [c for c in found.candidates if c.ran and id(c) not in marks][:SHOWN]
    shown = [c for c in found.candidates if id(c) in marks or any(c is other for other in rest)]
    per = "a success" if found.least == "joules.success" else "a workflow"
    _table(f"{found.trace}: configurations by joules {per}, {found.source}", found, shown, marks)
    if found.confirm:
        _table(f"{found.trace}: to run next; what is predicted was never run", found, found.confirm, {})
    elif found.only is None and any(c.kind == "predicted" for c in found.candidates):
        say(f"{found.trace}: no configuration that was not run is expected to be better", "dim")
    hidden = sum(c.ran for c in found.candidates) - sum(c.ran for c in shown)
    if hidden > 0:
        say(f"{found.trace}: {hidden} more were run: --json has them", "dim")


def _table(title: str, found: Advice, shown: Sequence[Candidate], marks: dict[int, list[str]]) -> None:
    from rejoule.analysis.cli.console import show
    from rejoule.analysis.summary.units import amount, percent
    from rejoule.analysis.summary.words import BY_NAME

    judged = any(one.succeeded is not None for one in found.candidates)
    own = ("energy per success", "workflows that succeeded")
    names = [name for name in (shown[0].figures if shown else ()) if not (judged and name in own)]
    rows = [
        (
            one.label,
            ", ".join(marks.get(id(one), [])),
            _shown(one.joules, "J"),
            *((_shown(one.success_joules, "J"), amount(one.succeeded, "share")) if judged else ()),
            *(_shown(one.figures[name], BY_NAME[name].unit) for name in names),
            one.kind,
            one.verdict if found.objectives else "",
            percent(one.chance) if one.chance is not None and found.objectives else "",
            "" if one.workflows_per_gpu_h is None else amount(one.workflows_per_gpu_h, "/h"),
            "" if one.agents_per_mw is None else f"{one.agents_per_mw:,.0f}",
        )
        for one in shown
    ]
    success = ("J a success", "succeeded") if judged else ()
    heads = (
        "",
        "",
        "J a workflow",
        *success,
        *names,
        "from",
        "objectives",
        "chance",
        "workflows an hour a GPU",
        "agents a MW",
    )
    show(title, heads, rows, _caption(found, names, marks))


def _caption(found: Advice, figures: Sequence[str], marks: Mapping[int, Sequence[str]]) -> str:
    words = ["agents a MW: workflows under way by the GPUs' mean power"]
    if any("front" in words for words in marks.values()) and figures:
        words.append(f"front: nothing that was run has both fewer joules and a better {figures[0]}")
    return "; ".join(words)


def _shown(found: Estimate | None, unit: str) -> str:
    from rejoule.analysis.summary.units import amount

    if found is None:
        return amount(None, unit)
    if found.low is None or found.high is None or found.low == found.high:
        return amount(found.value, unit)
    return f"{amount(found.value, unit)} ±{amount((found.high - found.low) / 2.0, unit)}"


METHOD: Final = {
    "low, high": "95 %: of measured cells from trials, pooled; of modelled ones what the profile's differences may be "
    "off by; of predicted ones that and the surface's own error; null where none is known",
    "success_joules": "of the whole run, by the workflows that succeeded; its numbers are null where succeeded is 0: "
    "infinite, and never the least; itself null where it is not known of all workflows, or of what was not run",
    "succeeded": "share of complete workflows that reached their goal, as recorded: a replay takes it over",
    "only": "the one configuration that was run and can be judged: nothing was chosen",
    "verdict": "keeps or misses: the whole interval does; may miss: the bound lies within it; by value without one",
    "chance": "that all objectives are kept, errors taken for independent",
    "inferred": "not run: a run that never reached a limit (batch size, token budget, calls in flight, power cap) "
    "would have been the same with another; same_as names it",
    "predicted": "kriging over the knobs' values from the cells that are known; batch sizes by how much longer the run "
    "with the most seats would have taken, caps by how far the least capped one drew more",
    "confirm": "expected improvement by the chance to keep the objectives; then what differs from the best in one knob",
    "agents_per_mw": "workflows under way on average by mean GPU power; the rest of the machine is not in it",
}

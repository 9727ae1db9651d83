"""How far the workloads that were measured on the largest model are from what each way to come by a profile says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from benchmarks.gpu.sensors import row
from benchmarks.sizes import AIMS
from benchmarks.sizes_measured.fits import Constants
from benchmarks.sizes_measured.parts import JUDGE
from benchmarks.validation import DATA, in_virtual_time, ran, written

from rejoule.analysis.validate import ENERGY, Row, Validation, validate
from rejoule.traces.run import Run, configuration_key
from rejoule.traces.runs import load_runs

SHOWN: Final = ("workflow time", "time to first token, mean", "time between tokens", ENERGY)


def judged(measured: Sequence[Run], way: Constants) -> Validation:
    traces = load_runs(DATA / "workloads").traces
    with written(way.profile(JUDGE.model)) as path:
        asked = {
            (run.trace, configuration_key(knobs)): knobs
            for run in measured
            if run.trace in traces
            for knobs in [in_virtual_time(run.configuration, path)]
        }
        runs = [ran(traces[name], knobs, name, f"{name}-{at}") for at, ((name, _), knobs) in enumerate(asked.items())]
    return validate(runs, measured)


def table(found: Mapping[str, Validation]) -> Iterator[str]:
    """By way: mean absolute error and the worst, and the signs of differences between numbers of calls at a time."""
    yield row("fitted to", *SHOWN, "signs of differences")
    yield row("---", *["--:"] * (1 + len(SHOWN)))
    for words, each in found.items():
        rows = {r.metric: r for r in each.rows}
        agree = f"{sum(d.agrees for d in each.decisive)} of {len(each.decisive)}" if each.decisive else "untested"
        yield row(words, *(_size(rows.get(metric)) for metric in SHOWN), agree)


def _size(found: Row | None) -> str:
    return "not measured" if found is None else f"{found.mape:.1%}, {found.worst.error:+.1%}"


def aims(words: str, found: Validation) -> Iterator[str]:
    """Which aims a way meets."""
    rows = {r.metric: r for r in found.rows}
    for metric, aim in AIMS.items():
        if (each := rows.get(metric)) is None:
            yield f"{metric}: not measured, so not judged"
        else:
            verdict = "met" if each.mape <= aim else "missed"
            yield f"{metric}, fitted to {words}: {each.mape:.1%} on average, aim {aim:.0%}: {verdict}"


def by_cell(found: Validation) -> Iterator[str]:
    """The errors of one way by workload and calls at a time."""
    rows = {r.metric: {(c.trace, c.configuration): c.error for c in r.cells} for r in found.rows if r.metric in SHOWN}
    yield row("workload", "configuration", *SHOWN)
    yield row("---", "---", *["--:"] * len(SHOWN))
    for cell in dict.fromkeys(cell for each in rows.values() for cell in each):
        errors = (rows.get(metric, {}).get(cell) for metric in SHOWN)
        yield row(*cell, *("–" if error is None else f"{error:+.1%}" for error in errors))

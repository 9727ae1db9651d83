"""The knobs of each workload by how much they move a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import expm1, log1p
from typing import Final

from rejoule.analysis.comparison.allowance import Allowance, model_error
from rejoule.analysis.sensitivity.design import Design, design
from rejoule.analysis.sensitivity.effects import Effect, between, effect
from rejoule.analysis.sensitivity.interplay import Interplay, interplays
from rejoule.analysis.sensitivity.noise import repeated, values
from rejoule.analysis.sensitivity.shares import shares
from rejoule.analysis.summary.cells import Cell, Workload, gather
from rejoule.analysis.summary.naming import measured_apart, source_label
from rejoule.analysis.summary.summary import METRICS, Metric
from rejoule.analysis.summary.units import change, percent
from rejoule.analysis.summary.usable import usable
from rejoule.analysis.summary.words import metric_named
from rejoule.traces.clock_curve import curve_notes
from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Trace
from rejoule.traces.modelled import worth_notes
from rejoule.traces.run import Run
from rejoule.traces.words import counted

LEAD: Final = "joules"
MATRIX: Final = "replay a matrix, as in rejoule replay T -o RUNS --max-num-seqs 1,8,64 --power-cap 300,500,700"
OTHER: Final = "choose another figure, as in --figure makespan, or replay more configurations"
BESIDE: Final = ("joules", "workflow.p50", "workflow.p99", "ttft.p50")
"""Figures that a table has beside the one that it is about."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Of one figure of one workload."""

    trace: str
    figure: str
    """As tables call it."""
    unit: str
    source: str
    """Of the joules."""
    cells: int
    effects: tuple[Effect, ...]
    """By the size of their change, greatest first; what cannot be separated comes last."""
    beside: Mapping[str, Mapping[str, float | None]]
    """By knob, what other figures do between the same two levels, by their name."""
    interplays: tuple[Interplay, ...]
    noise: float | None
    """95 %, relative: two configurations must differ by more to be told apart; ``None`` where nothing says."""
    noise_degrees: int
    modelled: bool
    notes: tuple[str, ...]
    span: float
    """Of the configurations, the highest against the lowest, relative, whatever sets them apart."""

    @property
    def headline(self) -> str:
        """The one sentence."""
        moving = [e for e in self.effects if e.verdict == "moves" and e.change is not None]
        inert = [e.label for e in self.effects if e.verdict == "inert"]
        if all(e.change is None for e in self.effects):
            words = f"no two configurations differ in one knob alone, so no knob's effect is known; {self.figure} of "
            words += f"the highest is {change(self.span)} against the lowest"
        elif not moving:
            words = f"{self.figure} is not shown to depend on any knob"
        else:
            most = moving[0]
            share = "" if most.share is None else f", {percent(most.share)} of the variance"
            words = f"{self.figure} depends most on {most.label}: "
            words += f"{change(most.change)} from {most.start} to {most.end}{share}"
        if inert:
            words += f"; inert{' in the model' if self.modelled else ''}: {', '.join(inert)}"
        return f"{self.trace}: {words}"


def sensitivities(
    runs: Sequence[Run], traces: Mapping[str, Trace], figure: str = LEAD, beside: Sequence[str] = BESIDE
) -> tuple[Sensitivity, ...]:
    """Of every workload that was replayed under several configurations.

    Raises RejouleError if none was, if no run knows the figure, or if modelled and measured joules are mixed.
    """
    return sensitivities_of(gather(runs, traces), figure, beside)


def sensitivities_of(
    workloads: Sequence[Workload], figure: str = LEAD, beside: Sequence[str] = BESIDE
) -> tuple[Sensitivity, ...]:
    """The same of runs that were gathered before."""
    metric = metric_named(figure)
    others = tuple(m for m in map(metric_named, beside) if m.name != metric.name)
    runs = [s.run for workload in workloads for cell in workload.cells for s in cell.trials]
    if len({run.measured for run in runs if run.energy.gpu_j is not None}) > 1:
        raise RejouleError(
            "some of these joules are modelled and some measured", "choose one kind, as in --only engine=sim"
        )
    found, without = list[Sensitivity](), list[RejouleError]()
    for workload in workloads:
        try:
            found.append(_of_workload(workload, metric, others))
        except RejouleError as error:
            without.append(error)
    if not found:
        raise without[0]
    left = tuple(f"not in these tables: {error.what}" for error in without)
    return tuple(replace(one, notes=(*one.notes, *left)) for one in found)


def _of_workload(workload: Workload, metric: Metric, others: Sequence[Metric]) -> Sensitivity:
    """Raises RejouleError where fewer than two configurations tell the figure."""
    drawn = len(workload.cells)
    workload = replace(workload, cells=repeated(workload.cells))
    cells, notes = usable(workload, metric)
    if len(workload.cells) < drawn:
        notes.append("runs that differ in the seed alone count as trials: what seeds draw is part of the noise")
    if len(workload.cells) < 2:
        raise RejouleError(f"{workload.name} has runs of one configuration alone", MATRIX)
    if len(cells) < 2:
        why = f": {notes[0]}" if notes else ""
        raise RejouleError(
            f"{workload.name} tells {metric.name} of {len(cells)} of {len(workload.cells)} configurations{why}", OTHER
        )
    plan = design(cells)
    runs = [s.run for cell in cells for s in cell.trials]
    notes += measured_apart(run.configuration for run in runs)
    simulated = all(run.configuration.engine == "sim" for run in runs)
    mine = values(cells, metric.value, simulated)
    logs = [log or 0.0 for log in mine.logs]
    parts = shares(plan.levels, logs) if len(cells) == plan.combinations else None
    off = [_errors(plan, k) for k in range(len(plan.knobs))]
    scope = "workload" if metric in METRICS else "workflows"
    effects = [
        effect(
            plan,
            mine,
            k,
            metric.name,
            None if parts is None else parts[k],
            {cells: error.of(scope, metric.name) for cells, error in off[k].items()},
        )
        for k in range(len(plan.knobs))
    ]
    # Of each pair of cells, its own caps; they are said of all at once.
    apart = [note for each in off for error in each.values() for note in error.notes if note not in error.curve]
    # As ratios: to half as much is as far as to twice as much.
    effects.sort(key=lambda e: (e.change is None, -abs(log1p(e.change or 0.0))))
    return Sensitivity(
        workload.name,
        metric.name,
        metric.unit,
        source_label(runs),
        len(cells),
        tuple(effects),
        _beside(plan, cells, effects, others),
        interplays(plan, mine, effects),
        mine.half_width,
        mine.degrees,
        any(not run.measured for run in runs),
        tuple(dict.fromkeys((*notes, *apart, *curve_notes(runs), *worth_notes(runs), *_holes(plan)))),
        expm1(max(logs) - min(logs)),
    )


def _errors(plan: Design, knob: int) -> dict[tuple[int, int], Allowance]:
    """Of the difference between each two cells that differ in this knob alone."""
    trials = [[summary.run for summary in cell.trials] for cell in plan.cells]
    return {(i, j): model_error([*trials[i], *trials[j]]) for _, _, i, j in plan.pairs(knob)}


def _beside(
    plan: Design, cells: Sequence[Cell], effects: Sequence[Effect], others: Sequence[Metric]
) -> dict[str, dict[str, float | None]]:
    figures = {metric.name: values(cells, metric.value, False) for metric in others}
    places = {knob.name: k for k, knob in enumerate(plan.knobs)}
    return {
        e.knob: {name: between(plan, found, places[e.knob], e.start, e.end) for name, found in figures.items()}
        for e in effects
    }


def _holes(plan: Design) -> Iterator[str]:
    whole = plan.combinations
    if len(plan.cells) < whole:
        yield (
            f"{len(plan.cells)} of {counted(whole, 'combination')} of these knobs' values were run: an effect is told "
            "from those that differ in its knob alone, and shares of the variance are not"
        )

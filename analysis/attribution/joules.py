"""A run in, the joules of its calls, its idle time and its tool wait out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Final

import numpy as np

from rejoule.analysis.attribution import costs as fitting
from rejoule.analysis.attribution.bins import BIN_S, FINE_S, LAGS_S, Bins, coarse, of_readings, of_stretches, spread
from rejoule.analysis.attribution.bounds import Bounds, bounds
from rejoule.analysis.attribution.checks import objection
from rejoule.analysis.attribution.costs import Costs, Sample
from rejoule.analysis.attribution.experts import ASLEEP
from rejoule.analysis.attribution.gpus import working
from rejoule.analysis.attribution.intervals import with_intervals
from rejoule.analysis.attribution.ledger import IDLE, Ledger, ledger, with_experts
from rejoule.analysis.attribution.nnls import Array
from rejoule.analysis.attribution.pace import Timed, pace
from rejoule.analysis.attribution.result import TOLERANCE, Attribution, CallEnergy, PhaseEnergy, method_of
from rejoule.analysis.attribution.shares import Shares, share
from rejoule.analysis.attribution.slices import Slice, slices_of
from rejoule.traces.run import Reading, Run, ToolResult

CLEARLY: Final = 0.95
"""How much less of the steps' lengths experts have to leave unexplained before a model is taken to have them."""


@dataclass(frozen=True)
class Laid:
    """A run with its working GPUs' joules laid over what was done."""

    run: Run
    whole_j: float
    idle_gpus_j: float
    book: Ledger
    bins: Bins
    asleep: float


def fit(runs: Iterable[Run]) -> Costs:
    """The costs that describe all these runs best, such as the trials of one configuration."""
    return fitted(lay([run for run in runs if run.energy.gpu_j is not None]))


def attribute(run: Run, costs: Costs | None = None) -> Attribution | None:
    """Attribute the run's GPU energy, by these costs or by its own; ``None`` when none was measured."""
    if run.energy.gpu_j is None:
        return None
    laid = lay([run], None if costs is None else costs.asleep)
    return attributed(laid[0], costs or fitted(laid))


def attribute_alike(runs: Sequence[Run]) -> tuple[Attribution, ...]:
    """Attribute runs whose GPU energy was measured, by one fit to all of them."""
    laid = lay(runs)
    costs = fitted(laid)
    return tuple(attributed(one, costs) for one in laid)


def lay(runs: Sequence[Run], asleep: float | None = None) -> list[Laid]:
    """Runs whose GPU energy was measured, as an attribution sees them.

    ``asleep`` is the chance that a token leaves an expert asleep; ``None`` to ask the steps for it.
    """
    known = [working(run) for run in runs]
    slices = [slices_of(run) for run, _ in known]
    plain = [ledger(mine, _names(run)) for mine, (run, _) in zip(slices, known, strict=True)]
    if asleep is None:
        asleep = _asleep([run for run, _ in known], plain)
    found = []
    for whole, (run, idle_gpus_j), mine, book in zip(runs, known, slices, plain, strict=True):
        laid = with_experts(book, asleep) if asleep else book
        bins = _bins(run, mine, laid, run.energy.gpu_j or 0.0)
        found.append(Laid(run, whole.energy.gpu_j or 0.0, idle_gpus_j, laid, bins, asleep))
    return found


def fitted(laid: Sequence[Laid]) -> Costs:
    """The costs that describe all these best."""
    samples = [_sample(one.run, one.book, one.bins, _timed(one.run, one.book)) for one in laid]
    return fitting.fit(samples, laid[0].asleep if laid else 0.0)


def attributed(laid: Laid, costs: Costs) -> Attribution:
    """By these costs."""
    run, book, bins = laid.run, laid.book, laid.bins
    total_j, method, names = run.energy.gpu_j or 0.0, method_of(run), _names(run)
    shares = share(book, bins, costs)
    slots = np.bincount(2 * book.call + book.decode, shares.entries_j, minlength=2 * len(names) + 2).tolist()
    twice = np.bincount(book.call, shares.entries_j * book.again, minlength=len(names) + 1).tolist()
    again = twice if run.steps is not None else [None] * len(names)
    joules = {n: PhaseEnergy(slots[2 * i], slots[2 * i + 1], again_j=again[i]) for i, n in enumerate(names)}
    calls = tuple(CallEnergy(c.id, c.workflow, c.node, joules[c.id], c.agent) for c in run.calls)
    busy_j = fsum(shares.stretches_j[~book.idle])
    found = Attribution(
        total_j,
        run.energy.source.get("gpu", "unknown"),
        calls,
        fsum(shares.stretches_j[book.idle]),
        _tool_wait(book, shares, run.tools),
        0.0,
        costs,
        busy_j / shares.modelled_j if shares.modelled_j > 0.0 else 1.0,
        method,
    )
    if run.steps is not None:
        found = replace(found, bounds=_bounds(run, names, book, shares, costs))
    # What the client's clock hides of the engine is in no misfit, so it gets no interval.
    if found.tested and run.steps is not None:
        found = with_intervals(found, run, names, book, bins, shares)
    reason = objection(run, costs) if found.tested else None
    return _balanced(replace(found, gpu_j=laid.whole_j, idle_gpus_j=laid.idle_gpus_j, objection=reason))


def predicted(run: Run, costs: Costs) -> dict[str, float]:
    """Joules of every call by these costs alone, not scaled to what was measured."""
    names = _names(run)
    book = ledger(slices_of(run), names, costs.asleep)
    joules = np.bincount(book.call, book.owed @ costs.vector, minlength=len(names) + 1).tolist()
    return dict(zip(names, joules, strict=False))


def _names(run: Run) -> list[str]:
    return sorted({call.id for call in run.calls})


def _bins(run: Run, slices: Sequence[Slice], book: Ledger, total: float) -> Bins:
    if run.readings and method_of(run).endswith("readings"):
        bins = _on_time(run, book, run.readings)
    else:
        bins = of_stretches(book, spread(book, [piece.energy_j for piece in slices], run.energy, total))
    claimed = fsum(bins.energy_j)
    # Stretches that claim more than the meter saw are scaled down to it: the meter is the truth.
    if claimed > total * (1.0 + TOLERANCE):
        bins = replace(bins, energy_j=bins.energy_j * (total / claimed))
    return bins


def _on_time(run: Run, book: Ledger, readings: Sequence[Reading]) -> Bins:
    """The readings at the lag at which costs explain most of them."""
    before_w = _idle_w(run)
    if before_w is None:
        before_w = min(
            (r.energy_j / (r.end_s - r.start_s) for r in readings if r.end_s - r.start_s > 0.05), default=0.0
        )

    timed = _timed(run, book)

    def missed(lag_s: float) -> float:
        return fitting.missed(_sample(run, book, of_readings(book, readings, lag_s, before_w), timed))

    near_s = min(LAGS_S, key=missed)
    lag_s = min((near_s + fine_s for fine_s in FINE_S if near_s + fine_s >= 0.0), key=missed)
    return of_readings(book, readings, lag_s, before_w)


def _idle_w(run: Run) -> float | None:
    """What all GPUs drew with the model loaded and nothing to do, before the run and after it."""
    around = run.conditions
    known = [] if around is None else [watts for watts in (around.loaded_w, around.after_w) if watts is not None]
    return fsum(known) / len(known) if known else None


def _sample(run: Run, book: Ledger, bins: Bins, timed: Timed | None) -> Sample:
    found = bins.sums(book.features), bins.energy_j, bins.duration_s
    return Sample(*found, bins.told, timed, _idle_w(run)) if bins.read else Sample(*found, bins.told)


def _timed(run: Run, book: Ledger) -> Timed | None:
    return None if run.steps is None else _paced(book)


def _paced(book: Ledger) -> Timed:
    busy = np.where(book.idle, 0.0, 1.0)
    features = coarse(book.features[:, :IDLE] * busy[:, None], book.start_s, BIN_S)
    return Timed(features, coarse(book.duration_s * busy, book.start_s, BIN_S))


def _asleep(runs: Sequence[Run], books: Sequence[Ledger]) -> float:
    """The chance that an expert sleeps through a token, as the lengths of steps tell it: 0 unless they clearly do."""
    if not runs or any(method_of(run) != "step readings" for run in runs):
        return 0.0
    misfit = {q: pace([_paced(with_experts(book, q) if q else book) for book in books]).misfit for q in ASLEEP}
    best = min(ASLEEP, key=lambda q: misfit[q])
    return best if misfit[best] < CLEARLY * misfit[0.0] else 0.0


def _bounds(run: Run, names: Sequence[str], book: Ledger, shares: Shares, costs: Costs) -> dict[str, Bounds]:
    node_of = {call.id: call.node for call in run.calls}
    nodes = sorted(set(node_of.values()))
    place = {name: i for i, name in enumerate(nodes)}
    group = np.array([*(place[node_of[name]] for name in names), len(nodes)], dtype=np.intp)[book.call]
    return dict(zip(nodes, bounds(group, len(nodes) + 1, book, shares, costs), strict=False))


def _tool_wait(book: Ledger, shares: Shares, tools: Sequence[ToolResult]) -> float:
    """Idle joules of the time in which some tool ran, by time within each idle stretch."""
    return fsum(shares.stretches_j * waiting(book, tools))


def waiting(book: Ledger, tools: Sequence[ToolResult]) -> Array:
    """Of each stretch, the share of its time that was idle while some tool ran; 0 of those with work."""
    spans: list[list[float]] = []
    for tool in sorted(tools, key=lambda t: (t.start_s, t.end_s)):
        if spans and tool.start_s <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], tool.end_s)
        else:
            spans.append([tool.start_s, tool.end_s])
    if not spans:
        return np.zeros(len(book.idle))
    edges = np.array(spans).ravel()
    # Time spent in tools from the start until each edge, and between edges by interpolation.
    spent = np.concatenate([[0.0], np.cumsum(np.diff(edges) * (np.arange(len(edges) - 1) % 2 == 0))])
    inside = np.interp(book.end_s, edges, spent) - np.interp(book.start_s, edges, spent)
    duration = book.duration_s
    part = np.where(book.idle & (duration > 0.0), inside / np.where(duration > 0.0, duration, 1.0), 0.0)
    return np.clip(part, 0.0, 1.0).astype(np.float64)


def _balanced(found: Attribution) -> Attribution:
    """Put what is missing to the total under ``unattributed_j``, or, if only rounding, on the largest part."""
    parts = [
        found.idle_j,
        found.idle_gpus_j,
        *(j for c in found.calls for j in (c.energy.prefill_j, c.energy.decode_j)),
    ]
    rest = found.gpu_j - fsum(parts)
    if abs(rest) > TOLERANCE * abs(found.gpu_j):
        return replace(found, unattributed_j=rest)
    if not found.calls:
        return replace(found, idle_j=found.idle_j + rest)
    largest = max(found.calls, key=lambda c: (c.energy.total_j, c.call))
    if found.idle_j >= largest.energy.total_j:
        return replace(found, idle_j=found.idle_j + rest)
    energy = largest.energy
    if energy.decode_j >= energy.prefill_j:
        energy = replace(energy, decode_j=energy.decode_j + rest)
    else:
        energy = replace(energy, prefill_j=energy.prefill_j + rest)
    return replace(found, calls=tuple(replace(c, energy=energy) if c is largest else c for c in found.calls))

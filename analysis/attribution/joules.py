"""A run in, the joules of its calls, its idle time and its tool wait out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import fsum

import numpy as np

from rejoule.analysis.attribution import costs as fitting
from rejoule.analysis.attribution.bins import LAGS_S, Bins, coarse, of_readings, of_stretches, spread
from rejoule.analysis.attribution.costs import Costs, Sample
from rejoule.analysis.attribution.intervals import with_intervals
from rejoule.analysis.attribution.ledger import Ledger, ledger
from rejoule.analysis.attribution.result import TOLERANCE, Attribution, CallEnergy, PhaseEnergy, method_of
from rejoule.analysis.attribution.shares import Shares, share
from rejoule.analysis.attribution.slices import slices_of
from rejoule.traces.run import Run, ToolResult


def fit(runs: Iterable[Run]) -> Costs:
    """The costs that describe all these runs best, such as the trials of one configuration."""
    return fitting.fit([_sample(*_tables(run, run.energy.gpu_j)) for run in runs if run.energy.gpu_j is not None])


def attribute(run: Run, costs: Costs | None = None) -> Attribution | None:
    """Attribute the run's GPU energy, by these costs or by its own; ``None`` when none was measured."""
    total_j = run.energy.gpu_j
    if total_j is None:
        return None
    book, bins = _tables(run, total_j)
    method = method_of(run)
    costs = costs or fitting.fit([_sample(book, bins)])
    shares = share(book, bins, costs)
    names = _names(run)
    slots = np.bincount(2 * book.call + book.decode, shares.entries_j, minlength=2 * len(names) + 2).tolist()
    joules = {name: PhaseEnergy(slots[2 * i], slots[2 * i + 1]) for i, name in enumerate(names)}
    calls = tuple(CallEnergy(c.id, c.workflow, c.node, joules[c.id]) for c in run.calls)
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
    # What the client's clock hides of the engine is in no misfit, so it gets no interval.
    if found.tested and run.steps is not None:
        found = with_intervals(found, run, names, book, bins, shares)
    return _balanced(found)


def predicted(run: Run, costs: Costs) -> dict[str, float]:
    """Joules of every call by these costs alone, not scaled to what was measured."""
    names = _names(run)
    book = ledger(slices_of(run), names)
    joules = np.bincount(book.call, book.owed @ costs.vector, minlength=len(names) + 1).tolist()
    return dict(zip(names, joules, strict=False))


def _names(run: Run) -> list[str]:
    return sorted({call.id for call in run.calls})


def _tables(run: Run, total_j: float | None) -> tuple[Ledger, Bins]:
    slices = slices_of(run)
    book = ledger(slices, _names(run))
    total = total_j or 0.0
    if run.readings and method_of(run).endswith("readings"):
        late = (of_readings(book, run.readings, lag_s) for lag_s in LAGS_S)
        bins = min(late, key=lambda found: fitting.fit([_sample(book, found)]).misfit)
    else:
        bins = of_stretches(book, spread(book, [piece.energy_j for piece in slices], run.energy, total))
    claimed = fsum(bins.energy_j)
    # Stretches that claim more than the meter saw are scaled down to it: the meter is the truth.
    if claimed > total * (1.0 + TOLERANCE):
        bins = replace(bins, energy_j=bins.energy_j * (total / claimed))
    return book, bins


def _sample(book: Ledger, bins: Bins) -> Sample:
    found = bins.sums(book.features), bins.energy_j, bins.duration_s
    if bins.energy_j.shape == book.start_s.shape:
        features, energy_j, duration_s = (coarse(each, book.start_s) for each in found)
        return Sample(features, energy_j, duration_s)
    return Sample(*found)


def _tool_wait(book: Ledger, shares: Shares, tools: Sequence[ToolResult]) -> float:
    """Idle joules of the time in which some tool ran, by time within each idle stretch."""
    spans: list[list[float]] = []
    for tool in sorted(tools, key=lambda t: (t.start_s, t.end_s)):
        if spans and tool.start_s <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], tool.end_s)
        else:
            spans.append([tool.start_s, tool.end_s])
    if not spans:
        return 0.0
    edges = np.array(spans).ravel()
    # Time spent in tools from the start until each edge, and between edges by interpolation.
    spent = np.concatenate([[0.0], np.cumsum(np.diff(edges) * (np.arange(len(edges) - 1) % 2 == 0))])
    inside = np.interp(book.end_s, edges, spent) - np.interp(book.start_s, edges, spent)
    duration = book.duration_s
    part = np.where(book.idle & (duration > 0.0), inside / np.where(duration > 0.0, duration, 1.0), 0.0)
    return fsum(shares.stretches_j * np.clip(part, 0.0, 1.0))


def _balanced(found: Attribution) -> Attribution:
    """Put what is missing to the total under ``unattributed_j``, or, if only rounding, on the largest part."""
    parts = [found.idle_j, *(j for c in found.calls for j in (c.energy.prefill_j, c.energy.decode_j))]
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

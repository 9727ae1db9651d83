"""Joules by node as attributed here, and as the usual methods split them, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Final

from rejoule.analysis.attribution import ordered
from rejoule.analysis.attribution.naive import NAIVE
from rejoule.analysis.summary.cells import Cell, gather
from rejoule.analysis.summary.lines import line
from rejoule.analysis.summary.summary import Summary
from rejoule.traces.modelled import worth_notes
from rejoule.traces.run import Run

OURS: Final = "attributed"
METHODS: Final = (OURS, *NAIVE)


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    joules: Mapping[str, float | None]
    """By method; ``None`` where it does not apply."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One configuration: nodes, the time without work, and ``sum``, which not every method makes the measured total."""

    trace: str
    label: str
    gpu_j: float | None
    rows: tuple[Line, ...]
    withheld: str | None
    notes: tuple[str, ...] = ()
    """What all of these joules are worth where they are modelled."""


def side_by_side(runs: Sequence[Run], among: Sequence[Run] | None = None) -> tuple[Compared, ...]:
    """Means over the trials of every configuration of these runs, chosen ``among`` those."""
    return tuple(_compared(w.name, cell) for w in gather(runs, {}, among) for cell in w.cells)


def by_method(summary: Summary) -> dict[str, dict[str, float] | None]:
    """Joules of one run by method, then by node, with the time without work where a method tells it apart."""
    node_of = {call.id: line(call.node) for call in summary.run.calls}
    found: dict[str, dict[str, float] | None] = {OURS: None}
    if summary.attribution is not None:
        nodes = {line(name): energy.total_j for name, energy in summary.attribution.by_node().items()}
        found[OURS] = nodes | summary.attribution.without_work()
    for method, split in NAIVE.items():
        calls = split(summary.run)
        found[method] = None if calls is None else _summed(calls, node_of)
    return found


def _compared(trace: str, cell: Cell) -> Compared:
    trials = [by_method(summary) for summary in cell.trials]
    names = ordered(name for trial in trials for joules in trial.values() if joules for name in joules)

    def mean(method: str, name: str | None) -> float | None:
        known = [joules for trial in trials if (joules := trial[method]) is not None]
        if not known or not any(name is None or name in joules for joules in known):
            return None
        return fsum(fsum(j.values()) if name is None else j.get(name, 0.0) for j in known) / len(known)

    rows = [Line(name, {method: mean(method, name) for method in METHODS}) for name in names]
    rows.append(Line("sum", {method: mean(method, None) for method in METHODS}))
    notes = tuple(worth_notes(s.run for s in cell.trials))
    return Compared(trace, cell.label, cell.energy_j, tuple(rows), cell.withheld, notes)


def _summed(calls: Mapping[str, float], node_of: Mapping[str, str]) -> dict[str, float]:
    nodes: dict[str, list[float]] = {}
    for call, joules in calls.items():
        nodes.setdefault(node_of[call], []).append(joules)
    return {name: fsum(joules) for name, joules in nodes.items()}

"""Where the joules of each trace went under each configuration: the mean over its trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import fsum
from typing import Any, Literal

from rejoule.analysis.attribution import POOR_FIT, Attribution, Method, PhaseEnergy
from rejoule.analysis.naming import knobs, source_label
from rejoule.analysis.notes import basis
from rejoule.analysis.report.view import Cell, gather
from rejoule.analysis.statistics import Interval
from rejoule.analysis.units import count
from rejoule.traces.run import Run

Split = Literal["workload", "node", "phase", "workflow"]


@dataclass(frozen=True, slots=True)
class Part:
    """A line of the table. The parts of a configuration add up to its ``gpu_j``."""

    name: str
    energy_j: float
    share: float | None
    """Of the total; ``None`` where that is 0."""
    prefill_j: float | None = None
    decode_j: float | None = None
    calls: int | None = None
    """In one trial."""

    @property
    def call_j(self) -> float | None:
        return self.energy_j / self.calls if self.calls else None


@dataclass(frozen=True, slots=True)
class Spent:
    """One trace under one configuration; joules are means over its trials, ``None`` where none were measured."""

    trace: str
    configuration: Mapping[str, Any]
    label: str
    trials: int
    source: str
    method: tuple[Method, ...]
    misfit: float | None
    """The largest of the trials."""
    gpu_j: float | None
    interval: Interval | None
    """95 %, of ``gpu_j``; ``None`` for one trial, or for equal ones."""
    calls: int
    workflow_p50_s: float | None
    notes: tuple[str, ...]
    parts: tuple[Part, ...]


def spent(runs: Sequence[Run], by: Split = "node", among: Sequence[Run] | None = None) -> tuple[Spent, ...]:
    """Every trace and configuration of these runs, chosen ``among`` those, by trace, then batch size and cap."""
    return tuple(_spent(w.name, cell, by) for w in gather(runs, {}, among) for cell in w.cells)


def as_json(found: Spent) -> dict[str, Any]:
    return asdict(found) | {"parts": [asdict(part) | {"call_j": part.call_j} for part in found.parts]}


def _spent(trace: str, cell: Cell, by: Split) -> Spent:
    runs = [summary.run for summary in cell.trials]
    found = [s.attribution for s in cell.trials if s.attribution is not None]
    total = cell.mean(lambda s: s.gpu_j)
    return Spent(
        trace,
        knobs(cell.configuration),
        cell.label,
        len(runs),
        source_label(runs),
        tuple(dict.fromkeys(a.method for a in found)),
        max((a.costs.misfit for a in found), default=None),
        None if total is None else total.value,
        None if total is None else total.interval,
        len(runs[0].calls),
        cell.latency_s,
        tuple(_notes(cell, found)),
        tuple(_parts(cell, found, by)) if found else (),
    )


def _parts(cell: Cell, found: Sequence[Attribution], by: Split) -> Iterator[Part]:
    total = fsum(a.gpu_j for a in found) / len(found)

    def part(name: str, joules: Sequence[float], **rest: Any) -> Part:
        energy = fsum(joules) / len(joules)
        return Part(name, energy, energy / total if total > 0.0 else None, **rest)

    run = cell.trials[0].run
    phases = [a.by_phase() for a in found]
    match by:
        case "phase":
            yield part("prefill", [p.prefill_j for p in phases])
            yield part("decode", [p.decode_j for p in phases])
        case "workload":
            yield _group("all calls", phases, len(run.calls), part)
        case _:
            groups = [a.by_node() if by == "node" else a.by_workflow() for a in found]
            keys = [call.node if by == "node" else call.workflow for call in run.calls]
            names = dict.fromkeys([*keys, *(name for group in groups for name in group)])
            lines = [
                _group(name, [g.get(name, PhaseEnergy()) for g in groups], keys.count(name), part) for name in names
            ]
            # Nodes by what they take; workflows as they came.
            yield from sorted(lines, key=lambda line: -line.energy_j) if by == "node" else lines
    yield part("idle", [a.idle_j for a in found])
    if any(a.unattributed_j for a in found):
        yield part("unattributed", [a.unattributed_j for a in found])


def _group(name: str, energies: Sequence[PhaseEnergy], calls: int, part: Callable[..., Part]) -> Part:
    def mean(values: Iterable[float]) -> float:
        return fsum(values) / len(energies)

    return part(
        name,
        [e.total_j for e in energies],
        prefill_j=mean(e.prefill_j for e in energies),
        decode_j=mean(e.decode_j for e in energies),
        calls=calls,
    )


def _notes(cell: Cell, found: Sequence[Attribution]) -> Iterator[str]:
    methods = dict.fromkeys(a.method for a in found)
    if len(methods) > 1:
        yield f"its trials are {' or '.join(map(basis, methods))}: do not read the mean of their joules by node"
    else:
        yield from (basis(method) for method in methods if method != "step energies")
    poor = [a.costs.misfit for a in found if a.poor_fit]
    if poor:
        yield f"poor fit (misfit {max(poor):.2f}, above {POOR_FIT:g}): read joules by node and phase with care"
    if cell.failed_calls:
        yield f"{count(cell.failed_calls, 'call')} failed; their energy is counted"
    if found and len(found) < len(cell.trials):
        yield f"energy was measured in {len(found)} of {len(cell.trials)} trials"

"""Where the joules of each trace went under each configuration: the mean over its trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import fsum
from typing import Any, Literal, TypeVar, get_args

from rejoule.analysis.attribution import Attribution, Method, PhaseEnergy
from rejoule.analysis.comparison.allowance import LEAD, between_trials, model_error
from rejoule.analysis.comparison.change import MARGIN
from rejoule.analysis.statistics import Interval
from rejoule.analysis.summary.cells import FULL_SHARE, Cell, gather, part_half_width_j
from rejoule.analysis.summary.evidence import Evidence, start_temperatures_c
from rejoule.analysis.summary.evidence import as_json as evidence_json
from rejoule.analysis.summary.lines import agents, line, quoted_notes, run_notes
from rejoule.analysis.summary.load import other_loads, under_one_load
from rejoule.analysis.summary.naming import source_label
from rejoule.analysis.summary.trust import UNSEEN, basis, caution
from rejoule.analysis.summary.units import amount
from rejoule.analysis.summary.workflows import Told, figure_notes, told
from rejoule.traces.by_gpu import GpuEnergy, mean_by_gpu
from rejoule.traces.clock_curve import mark
from rejoule.traces.errors import RejouleError
from rejoule.traces.modelled import modelled_notes
from rejoule.traces.preempted import fullest_note, preemption_notes
from rejoule.traces.run import Run, configuration_key, knobs
from rejoule.traces.run_options import as_served, of_the_run
from rejoule.traces.words import counted

Split = Literal["workload", "node", "agent", "phase", "workflow"]

K = TypeVar("K", bound=str | None)


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
    uncertainty_j: float | None = None
    """Half-width of the 95 % interval: of the attribution, and of the mean over trials where there are several."""

    saved_j: float | None = None
    """What the same engine steps would have taken less without this node: its marginal cost."""
    alone_j: float | None = None
    """What the same engine steps would have taken with this node alone."""
    again_j: float | None = None
    """The part of its joules that computed again what a preemption had thrown away; ``None`` without steps."""

    @property
    def low_j(self) -> float | None:
        return None if self.uncertainty_j is None else max(0.0, self.energy_j - self.uncertainty_j)

    @property
    def high_j(self) -> float | None:
        return None if self.uncertainty_j is None else self.energy_j + self.uncertainty_j

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
    withheld: str | None = None
    """Why only the sum of all calls is among the parts; ``None`` where nothing is kept back."""
    evidence: Evidence = field(default_factory=Evidence)
    agents: tuple[Part, ...] = ()
    """Joules by agent, the same ones once more, where there are several and the parts are nodes."""
    cautions: tuple[str, ...] = ()
    """Those of the notes that speak against the means themselves: trials that are not alike."""
    left_out: tuple[int, ...] = ()
    """Trials that are in none of these figures: the server's prefix cache was warmer for them."""
    together: tuple[Part, ...] = ()
    """Sums of nodes that the runs cannot tell apart; each of those has no interval of its own among the parts."""
    workflows: int = 0
    """Complete ones, of all trials together."""
    figures: tuple[Told, ...] = ()
    """Of the workflows: their times, throughput, joules, waiting and fairness."""
    figure_notes: tuple[str, ...] = ()
    """What of these is not known, and what else stands against reading them."""
    gpus: tuple[GpuEnergy, ...] = ()
    """What each of several GPUs took: the joules once more."""
    curve: str = ""
    """What an assumed clock curve may put the joules off by, as in ``±9.2 %``; nothing where none is assumed."""


def spent(
    runs: Sequence[Run], by: Split = "node", among: Sequence[Run] | None = None, force: bool = False
) -> tuple[Spent, ...]:
    """Every trace and configuration of these runs, chosen ``among`` those, by trace, then batch size and cap.

    Where the fit is poor, all calls are one part, whatever is asked for, unless it is asked for with ``force``.
    """
    if by not in get_args(Split):
        raise RejouleError(f"joules cannot be split by {by!r}", f"choose one of {', '.join(get_args(Split))}")
    return tuple(_spent(w.name, cell, by, force) for w in gather(runs, {}, among) for cell in w.cells)


@dataclass(frozen=True, slots=True)
class Extremes:
    """Which configurations of a trace take the least and the most, and what is known of differences between them."""

    trace: str
    least: str | None
    """Labels; ``None`` where the two are not told apart."""
    most: str | None
    error: float | None
    """Of the difference between the two ends, where modelled, relative: with what their own caps add; ``None`` where
    none is known, or fewer than two tell."""
    notes: tuple[str, ...]


def extremes(found: Sequence[Spent], runs: Sequence[Run]) -> Extremes:
    """Of the configurations of one trace, which these are the runs of."""
    alike = under_one_load(found, lambda spent: spent.configuration)
    known = sorted((spent for spent in alike if spent.gpu_j is not None), key=lambda spent: spent.gpu_j or 0.0)
    others = other_loads(found, lambda spent: spent.configuration)
    settings = [(run, _served(knobs(run.configuration))) for run in runs]
    trials = [(s.label, [run for run, held in settings if held == _served(s.configuration)]) for s in found]
    said = (*model_error(runs).notes, *modelled_notes(runs), *fullest_note(trials, FULL_SHARE), *others)
    notes, trace = tuple(dict.fromkeys(said)), found[0].trace
    if len(known) < 2:
        return Extremes(trace, None, None, None, notes)
    ends = [
        run for run, held in settings if held in (_served(known[0].configuration), _served(known[-1].configuration))
    ]
    error = model_error(ends).of("workload", LEAD)
    least = MARGIN if error is None else max(MARGIN, error)
    if (known[-1].gpu_j or 0.0) <= (known[0].gpu_j or 0.0) * (1.0 + least):
        return Extremes(trace, None, None, error, notes)
    return Extremes(trace, known[0].label, known[-1].label, error, notes)


def _served(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if not of_the_run(name)}


def error_notes(runs: Sequence[Run]) -> tuple[str, ...]:
    """What differences between these runs' configurations are worth where they are modelled, and what was modelled
    unseen; of one configuration, there are no differences."""
    by_trace = {name: [run for run in runs if run.trace == name] for name in dict.fromkeys(run.trace for run in runs)}
    several = [
        mine for mine in by_trace.values() if len({configuration_key(as_served(r.configuration)) for r in mine}) > 1
    ]
    return tuple(
        dict.fromkeys((*(note for mine in several for note in model_error(mine).notes), *modelled_notes(runs)))
    )


def as_json(found: Spent) -> dict[str, Any]:
    extra = ("call_j", "low_j", "high_j")

    def full(parts: Sequence[Part]) -> list[dict[str, Any]]:
        return [asdict(part) | {name: getattr(part, name) for name in extra} for part in parts]

    body = asdict(found)
    parts = {"parts": full(found.parts), "agents": full(found.agents)}
    return body | parts | {"evidence": evidence_json(found.evidence, body["evidence"])}


def _spent(trace: str, cell: Cell, by: Split, force: bool) -> Spent:
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
        tuple(_notes(cell, found, force)),
        tuple(_parts(cell, found, by, hidden=cell.withheld is not None and not force)) if found else (),
        None if force else cell.withheld,
        cell.evidence,
        tuple(_agents(cell, found)) if by == "node" and (cell.withheld is None or force) else (),
        tuple(_cautions(cell)),
        tuple(run.trial for run in cell.warmer),
        tuple(_together(found, [a.together() for a in found])) if cell.withheld is None or force else (),
        sum(s.figures.workflows for s in cell.trials),
        told(cell.trials),
        tuple(figure_notes(cell.trials)),
        mean_by_gpu(runs),
        mark(runs[0]),
    )


def _parts(cell: Cell, found: Sequence[Attribution], by: Split, hidden: bool) -> Iterator[Part]:
    part = partial(_part, fsum(a.gpu_j for a in found) / len(found))
    run = cell.trials[0].run
    phases = [a.by_phase() for a in found]
    match "hidden" if hidden else by:
        case "hidden":
            yield part("all calls", [p.total_j for p in phases], [None], calls=len(run.calls))
        case "phase":
            widths = [a.uncertainty.prefill_j for a in found]
            yield part("prefill", [p.prefill_j for p in phases], widths, again_j=_again_j(phases))
            yield part("decode", [p.decode_j for p in phases], [a.uncertainty.decode_j for a in found])
        case "workload":
            yield _group("all calls", phases, len(run.calls), part)
        case "agent":
            yield from _by_agent(run, found, part)
        case _:
            groups = [a.by_node() if by == "node" else a.by_workflow() for a in found]
            keys = [call.node if by == "node" else call.workflow for call in run.calls]
            names = dict.fromkeys([*keys, *(name for group in groups for name in group)])
            lines = [
                _group(line(name), [g.get(name, PhaseEnergy()) for g in groups], keys.count(name), part)
                for name in names
            ]
            if by == "node":
                lines = [_bounded(one, name, found) for one, name in zip(lines, names, strict=True)]
            # Nodes by what they take; workflows as they came.
            yield from sorted(lines, key=lambda line: -line.energy_j) if by == "node" else lines
    waits = [a.tool_wait_j for a in found]
    idle_widths = [a.uncertainty.idle_j for a in found]
    if any(waits):
        shares = [w / a.idle_j if a.idle_j > 0.0 else 0.0 for a, w in zip(found, waits, strict=True)]
        halves = [None if u is None else u * s for u, s in zip(idle_widths, shares, strict=True)]
        yield part("tool wait", waits, halves)
    if hidden:
        # What speaks against the joules of nodes speaks against those of idle time, too.
        idle_widths = [None] * len(found)
    yield part("idle", [a.idle_j - a.tool_wait_j for a in found], idle_widths)
    if any(a.idle_gpus_j for a in found):
        yield part("idle GPUs", [a.idle_gpus_j for a in found], [None])
    if any(a.unattributed_j for a in found):
        yield part("unattributed", [a.unattributed_j for a in found], [None])


def _part(total: float, name: str, joules: Sequence[float], widths: Sequence[float | None], **rest: Any) -> Part:
    energy = fsum(joules) / len(joules)
    share = energy / total if total > 0.0 else None
    return Part(name, energy, share, uncertainty_j=part_half_width_j(joules, widths), **rest)


def _by_agent(run: Run, found: Sequence[Attribution], part: Callable[..., Part]) -> Iterator[Part]:
    """Agents by what they take, and last what no agent took."""
    groups = [a.by_agent() for a in found]
    keys = [call.agent for call in run.calls]
    lines = {
        name: _group(
            line(name),
            [g.get(name, PhaseEnergy()) for g in groups],
            keys.count(name),
            part,
        )
        for name in dict.fromkeys([*keys, *(name for group in groups for name in group)])
    }
    yield from (lines[name] for name in sorted(lines, key=lambda name: (name is None, -lines[name].energy_j)))


def _agents(cell: Cell, found: Sequence[Attribution]) -> Iterator[Part]:
    run = cell.trials[0].run
    if found and agents(run):
        yield from _by_agent(run, found, partial(_part, fsum(a.gpu_j for a in found) / len(found)))


def _bounded(one: Part, name: str, found: Sequence[Attribution]) -> Part:
    """With the means of its bounds, where the engine's steps are known in all trials."""
    known = [a.bounds[name] for a in found if name in a.bounds]
    if not known or len(known) < len(found):
        return one
    saved_j, alone_j = fsum(b.saved_j for b in known), fsum(b.alone_j for b in known)
    return replace(one, saved_j=saved_j / len(known), alone_j=alone_j / len(known))


def _together(found: Sequence[Attribution], sums: Sequence[Mapping[tuple[K, ...], PhaseEnergy]]) -> Iterator[Part]:
    """Sums of what some trial cannot tell apart."""
    total = fsum(a.gpu_j for a in found)
    for names in dict.fromkeys(names for trial in sums for names in trial):
        known = [trial[names] for trial in sums if names in trial]
        joules = [energy.total_j for energy in known]
        share = fsum(joules) / len(joules) / (total / len(found)) if total > 0.0 else None
        half = part_half_width_j(joules, [energy.uncertainty_j for energy in known])
        yield Part(" + ".join(map(line, names)), fsum(joules) / len(joules), share, uncertainty_j=half)


def _group(name: str, energies: Sequence[PhaseEnergy], calls: int, part: Callable[..., Part]) -> Part:
    def average(values: Iterable[float]) -> float:
        return fsum(values) / len(energies)

    return part(
        name,
        [e.total_j for e in energies],
        [e.uncertainty_j for e in energies],
        prefill_j=average(e.prefill_j for e in energies),
        decode_j=average(e.decode_j for e in energies),
        calls=calls,
        again_j=_again_j(energies),
    )


def _again_j(energies: Sequence[PhaseEnergy]) -> float | None:
    known = [e.again_j for e in energies if e.again_j is not None]
    return fsum(known) / len(known) if len(known) == len(energies) else None


def _cautions(cell: Cell) -> Iterator[str]:
    """How unlike the trials are that the means are taken of."""
    yield from cell.drifts
    if (cards := between_trials([s.run for s in cell.trials])) is not None:
        yield cards


def _notes(cell: Cell, found: Sequence[Attribution], force: bool) -> Iterator[str]:
    if cell.evidence.rejected:
        yield f"these joules should not be used: {'; '.join(cell.evidence.rejected)}"
    apart = start_temperatures_c(s.run for s in cell.trials)
    if apart is not None:
        yield f"its trials started at {apart[0]:.0f} to {apart[1]:.0f} °C: warmer ones take more"
    yield from _cautions(cell)
    yield from preemption_notes([s.run for s in cell.trials], FULL_SHARE)
    methods = dict.fromkeys(a.method for a in found)
    if len(methods) > 1:
        yield f"its trials are {' or '.join(map(basis, methods))}: do not read the mean of their joules by node"
    else:
        yield from (basis(method) for method in methods if method != "step energies")
    yield from (note for method in methods if (note := caution(method)))
    nodes = ((part, "them") for part in _together(found, [a.together() for a in found]))
    of_agents = ((part, "these agents") for part in _together(found, [a.agents_together() for a in found]))
    for part, each in (*nodes, *of_agents):
        half = "" if part.uncertainty_j is None else f" ± {amount(part.uncertainty_j, 'J')}"
        yield (
            f"{part.name} always worked side by side: what each of {each} took cannot be told; together it is "
            f"{amount(part.energy_j, 'J')}{half}"
        )
    if cell.withheld:
        yield f"{cell.withheld}: joules by node and phase {'are not to be trusted' if force else UNSEEN}"
    if cell.failed_calls:
        yield f"{counted(cell.failed_calls, 'call')} failed; their energy is counted"
    yield from run_notes(summary.run for summary in cell.trials)
    yield from quoted_notes([cell.trials[0].run])
    if found and len(found) < len(cell.trials):
        yield f"energy was measured in {len(found)} of {len(cell.trials)} trials"

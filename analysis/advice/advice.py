"""The configuration with the least joules a workflow that keeps the objectives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, hypot, inf
from typing import Any, Final

from rejoule.analysis.advice.candidates import Candidate, candidate
from rejoule.analysis.advice.known import NORMAL, Estimate, known
from rejoule.analysis.advice.matrix import Key, Matrix, matrix, setting
from rejoule.analysis.advice.objective import Objective
from rejoule.analysis.advice.search import State, next_cells
from rejoule.analysis.advice.surface import Guess
from rejoule.analysis.comparison.allowance import model_error
from rejoule.analysis.pairing import parse_filters
from rejoule.analysis.summary.cells import Workload, gather
from rejoule.analysis.summary.naming import source_label
from rejoule.analysis.summary.units import amount, change
from rejoule.analysis.summary.usable import usable
from rejoule.analysis.summary.words import metric_named
from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Trace
from rejoule.traces.run import Configuration, Run

JOULES: Final = "joules.workflow"
CONFIRMED: Final = 3
"""Cells that are named to be run next, at most."""

NAMED: Final = 3
"""Configurations with equal runs that a note names, at most."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Of one workload."""

    trace: str
    source: str
    objectives: tuple[str, ...]
    best: Candidate | None
    """Of those that were run and keep every objective for sure, or else by their values, the one with least joules."""
    sure: bool
    """Whether ``best`` keeps them for sure, as far as errors are known."""
    today: Candidate | None
    """What the saving is counted from."""
    saving: Estimate | None
    """1 − joules of the best / joules of today's."""
    front: tuple[Candidate, ...]
    """Of those that were run: no other has both fewer joules and less of the first objective's figure."""
    nearest: Candidate | None
    """Where nothing keeps the objectives: what comes closest."""
    rivals: tuple[Candidate, ...]
    """Run, and not shown to take more joules than the best."""
    confirm: tuple[Candidate, ...]
    """To be run next: not known yet, and expected to be better than the best, or to tell the most."""
    candidates: tuple[Candidate, ...]
    """All of them, by joules."""
    like: Configuration
    """With the knobs that do not vary."""
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        asked = f" and keeps {' and '.join(self.objectives)}" if self.objectives else ""
        if self.best is None or self.best.joules is None:
            near = "" if self.nearest is None else f"; {self.nearest.label} comes closest"
            return f"{self.trace}: nothing that was run keeps {' and '.join(self.objectives)}{near}"
        joules = amount(self.best.joules.value, "J")
        words = f"{self.trace}: {self.best.label} takes the least joules{asked}: {joules} a workflow"
        if not self.sure:
            words += ", but may miss an objective"
        elif self.objectives and self.best.chance is None:
            words += ", as far as can be told without knowing how far off it is"
        if self.today is not None and self.saving is not None:
            width = ""
            if self.saving.low is not None and self.saving.high is not None:
                width = f" ({change(-self.saving.low)} to {change(-self.saving.high)})"
            words += f", {change(-self.saving.value)}{width} against {self.today.label}"
        return words


def advise(
    runs: Sequence[Run],
    traces: Mapping[str, Trace],
    wanted: Sequence[Objective] = (),
    more: Mapping[str, Sequence[Any]] | None = None,
    today: Sequence[str] = (),
    confirm: int = CONFIRMED,
) -> tuple[Advice, ...]:
    """For every workload of these runs; simulated and measured ones may stand side by side.

    ``more`` has further values of knobs to think of, ``today`` is ``KNOB=VALUE`` of the configuration in use, and
    ``confirm`` how many cells may be named to be run next. Raises RejouleError where no joules are known, or no such
    knob.
    """
    return advise_of(gather(runs, traces), wanted, more, today, confirm)


def advise_of(
    workloads: Sequence[Workload],
    wanted: Sequence[Objective] = (),
    more: Mapping[str, Sequence[Any]] | None = None,
    today: Sequence[str] = (),
    confirm: int = CONFIRMED,
) -> tuple[Advice, ...]:
    """The same of runs that were gathered before."""
    each = (_of(workload, wanted, more or {}, today, confirm) for workload in workloads)
    found = [one for one in each if one is not None]
    if not found:
        raise RejouleError(
            "no run here has joules that may be used", "see rejoule energy RUNS for what stands against them"
        )
    return tuple(found)


def _of(
    workload: Workload,
    wanted: Sequence[Objective],
    more: Mapping[str, Sequence[Any]],
    today: Sequence[str],
    confirm: int,
) -> Advice | None:
    lead = metric_named(JOULES)
    cells, notes = usable(workload, lead)
    if not cells:
        return None
    plan = matrix(cells, more, [lead, *(one.metric for one in wanted)])
    like = cells[0].configuration
    modelled = [s.run for c in cells for s in c.trials if not s.run.measured]
    off = model_error(modelled)
    joules = known(plan, lead, off, plan.joules_slopes)
    of = tuple((objective, known(plan, objective.metric, off)) for objective in wanted)
    for objective, held in of:
        if not held.guesses:
            raise RejouleError(f"{workload.name}: no run knows {objective.name}", "leave that objective out")
    every = {key: candidate(plan, key, joules, of, like) for key in plan.keys}
    ran = [every[key] for key in plan.cells if every[key].joules is not None]
    best, sure = _best(ran)
    usual = _today(plan, every, today)
    chosen = next_cells(plan, State(joules, of), confirm) if confirm else ()
    keys = {id(one): key for key, one in every.items()}

    def against(a: Candidate, b: Candidate) -> Estimate | None:
        of_a, of_b = (joules.at(keys[id(one)], plan.place(keys[id(one)])) for one in (a, b))
        return _saving(of_a, of_b, shared="measured" not in (a.kind, b.kind))

    rivals = [c for c in ran if best is not None and c is not best and c.verdict == "keeps" and _open(against(c, best))]
    return Advice(
        trace=workload.name,
        source=source_label([s.run for c in cells for s in c.trials]),
        objectives=tuple(map(str, wanted)),
        best=best,
        sure=sure,
        today=usual,
        saving=None if best is None or usual is None or usual is best else against(usual, best),
        front=_front(ran, wanted),
        nearest=None if best is not None else _nearest(ran, wanted),
        rivals=tuple(sorted(rivals, key=_joules)),
        confirm=tuple(every[key] for key in chosen),
        candidates=tuple(sorted(every.values(), key=_joules)),
        like=like,
        notes=tuple(dict.fromkeys((*notes, *plan.notes, *off.notes, *_inferred(every.values())))),
    )


def _inferred(every: Iterable[Candidate]) -> Iterator[str]:
    """Which configurations were not run because their runs would have been the same."""
    found: dict[str, list[str]] = {}
    for one in every:
        if one.same_as is not None:
            found.setdefault(one.same_as, []).append(one.label)
    for same_as, labels in found.items():
        rest = len(labels) - NAMED
        more = f" and {rest} more" if rest > 0 else ""
        yield f"{' | '.join(labels[:NAMED])}{more}: would be the same run as {same_as}"


def _best(ran: Sequence[Candidate]) -> tuple[Candidate | None, bool]:
    for verdicts in (("keeps",), ("may miss",)):
        if fit := [one for one in ran if one.verdict in verdicts]:
            if verdicts == ("keeps",):
                return min(fit, key=_joules), True
            return max(fit, key=lambda one: one.chance or 0.0), False
    return None, False


def _today(plan: Matrix, every: Mapping[Key, Candidate], today: Sequence[str]) -> Candidate | None:
    """The configuration in use; unless told, that with no knob set, if it was run."""
    if today:
        wanted = parse_filters(today)
        if unknown := [name for name in wanted if name not in plan.names]:
            raise RejouleError(f"{unknown[0]} does not vary here", f"choose among {', '.join(plan.names) or 'no knob'}")
        fit = [one for one in every.values() if all(one.settings[name] == value for name, value in wanted.items())]
        if not fit:
            raise RejouleError(
                f"no configuration here has {', '.join(today)}", "name values that were run, or --consider them"
            )
        if len(fit) > 1:
            raise RejouleError(
                f"{len(fit)} configurations have {', '.join(today)}", "name all knobs that vary with --today"
            )
        return fit[0]
    usual = tuple(setting(Configuration(), name) for name in plan.names)
    return every[usual] if usual in plan.cells else None


def _saving(a: Guess | None, b: Guess | None, shared: bool) -> Estimate | None:
    """1 − b/a. What is ``shared`` is the model's error, which is known of differences: it counts once."""
    if a is None or b is None:
        return None
    less = 1.0 - exp(b.log - a.log)
    if inf in (a.error, b.error):
        return Estimate(less, None, None)
    half = NORMAL * (max(a.error, b.error) if shared else hypot(a.error, b.error))
    return Estimate(less, 1.0 - exp(b.log - a.log + half), 1.0 - exp(b.log - a.log - half))


def _open(less: Estimate | None) -> bool:
    """Whether it is not shown that the best takes less."""
    return less is not None and less.low is not None and less.low <= 0.0


def _front(ran: Sequence[Candidate], wanted: Sequence[Objective]) -> tuple[Candidate, ...]:
    if not wanted:
        return ()
    first = wanted[0]

    def place(one: Candidate) -> float:
        found = one.figures[first.name]
        return inf if found is None else first.sign * found.value

    front: list[Candidate] = []
    for one in sorted(ran, key=lambda one: (place(one), _joules(one))):
        if not front or _joules(one) < _joules(front[-1]):
            front.append(one)
    return tuple(front)


def _nearest(ran: Sequence[Candidate], wanted: Sequence[Objective]) -> Candidate | None:
    """By the objective that it misses by most."""

    def missed(one: Candidate) -> float:
        found = [(objective, one.figures[objective.name]) for objective in wanted]
        return max((inf if v is None else (v.value / o.bound) ** o.sign for o, v in found), default=0.0)

    return min(ran, key=missed, default=None)


def _joules(one: Candidate) -> float:
    return inf if one.joules is None else one.joules.value

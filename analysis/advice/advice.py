"""The configuration with the least joules, a workflow or a success, that keeps the objectives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import exp, hypot, inf, log
from typing import Any, Final

from rejoule.analysis.advice.answer import Advice, finite, value
from rejoule.analysis.advice.candidates import Candidate, candidate
from rejoule.analysis.advice.known import NORMAL, Estimate, Known, known
from rejoule.analysis.advice.least import A_SUCCESS, A_WORKFLOW, Least
from rejoule.analysis.advice.matrix import Key, Matrix, matrix
from rejoule.analysis.advice.objective import Objective
from rejoule.analysis.advice.search import State, next_cells
from rejoule.analysis.advice.success import SHARE, Success, success, success_notes, why_untold
from rejoule.analysis.advice.surface import Guess
from rejoule.analysis.comparison.allowance import Allowance, model_error
from rejoule.analysis.pairing import called, meant, parse_filters, setting
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.naming import measured_apart, several, source_label
from rejoule.analysis.summary.usable import usable
from rejoule.analysis.summary.words import metric_named
from rejoule.traces.errors import RejouleError
from rejoule.traces.modelled import worth_notes
from rejoule.traces.preempted import preemption_notes
from rejoule.traces.run import Configuration

CONFIRMED: Final = 3
"""Cells that are named to be run next, at most."""
UNTOLD: Final = (
    "say it with rejoule record --success, or with rejoule label on a trace that is there; then replay it at the "
    "lengths recorded"
)


def advise(
    workloads: Sequence[Workload],
    wanted: Sequence[Objective] = (),
    more: Mapping[str, Sequence[Any]] | None = None,
    today: Sequence[str] = (),
    confirm: int = CONFIRMED,
    least: Least = A_WORKFLOW,
) -> tuple[Advice, ...]:
    """For each of these workloads; simulated and measured runs may stand side by side.

    ``more`` has further values of knobs to think of, ``today`` is ``KNOB=VALUE`` of the configuration in use,
    ``confirm`` how many cells may be named to be run next, and ``least`` what the best has the least of. Raises
    RejouleError where no joules are known, or no such knob, and for joules a success where nobody said what succeeded.
    """
    each = {workload.name: _of(workload, wanted, more or {}, today, confirm, least) for workload in workloads}
    found = [one for one in each.values() if one is not None]
    if not found:
        raise RejouleError(
            "no run here has joules that may be used", "see rejoule energy RUNS for what stands against them"
        )
    silent = tuple(f"{name}: no run has joules that may be used" for name, one in each.items() if one is None)
    return tuple(replace(one, notes=(*one.notes, *silent)) for one in found)


def _of(
    workload: Workload,
    wanted: Sequence[Objective],
    more: Mapping[str, Sequence[Any]],
    today: Sequence[str],
    confirm: int,
    least: Least,
) -> Advice | None:
    metric = metric_named(A_WORKFLOW)
    cells, notes = usable(replace(workload, cells=workload.alike), metric)
    notes += [*workload.other_loads, *measured_apart(s.run.configuration for c in cells for s in c.trials)]
    if not cells:
        return None
    plan = matrix(cells, more, [metric, *(one.metric for one in wanted)])
    like = cells[0].configuration
    modelled = [s.run for c in cells for s in c.trials if not s.run.measured]
    off = model_error(modelled)
    workflow = known(plan, metric, off, plan.joules_slopes)
    goals = success(plan, workflow)
    if least == A_SUCCESS and not goals.told:
        raise RejouleError(f"{workload.name}: {' and '.join(why_untold(plan))}", UNTOLD)
    lead = goals.joules if least == A_SUCCESS else workflow
    of = tuple((objective, _held(plan, objective, goals, off)) for objective in wanted)
    for objective, held in of:
        if not held.guesses:
            raise RejouleError(f"{workload.name}: no run knows {objective.name}", "leave that objective out")
    every = {key: candidate(plan, key, workflow, goals, of, like) for key in plan.keys}
    told = [every[key] for key in plan.cells if value(every[key], least) is not None]
    only = told[0] if len(told) == 1 else None
    ran = [] if only is not None else [one for one in told if finite(value(one, least))]
    best, sure = _best(ran, least)
    usual = _today(plan, every, today)
    foreseen = least == A_WORKFLOW or goals.foreseen
    chosen = next_cells(plan, State(lead, of), confirm) if confirm and foreseen else ()
    keys = {id(one): key for key, one in every.items()}

    def against(a: Candidate, b: Candidate) -> Estimate | None:
        of_a, of_b = (lead.at(keys[id(one)], plan.place(keys[id(one)])) for one in (a, b))
        return _saving(of_a, of_b, shared="measured" not in (a.kind, b.kind))

    rivals = [c for c in ran if best is not None and c is not best and c.verdict == "keeps" and _open(against(c, best))]
    by = partial(_place, least=least)
    asked = least == A_SUCCESS or any(held.metric in (SHARE, goals.joules.metric) for _, held in of)
    full = [] if best is None else _full(best.label, plan.cells[keys[id(best)]])
    doubts = (*off.notes, *worth_notes(modelled))
    said = (*notes, *plan.notes, *doubts, *success_notes(plan, goals, asked), *_inferred(every.values()), *full)
    return Advice(
        trace=workload.name,
        source=source_label([s.run for c in cells for s in c.trials]),
        least=least,
        objectives=tuple(map(str, wanted)),
        best=best,
        only=only,
        sure=sure,
        today=usual,
        saving=None if best is None or usual is None or usual is best else against(usual, best),
        front=_front(ran, wanted, least),
        nearest=None if best is not None else _nearest(sorted(ran, key=by), wanted),
        rivals=tuple(sorted(rivals, key=by)),
        confirm=tuple(every[key] for key in chosen),
        candidates=tuple(sorted(every.values(), key=by)),
        like=like,
        notes=tuple(dict.fromkeys(said)),
    )


def _held(plan: Matrix, objective: Objective, goals: Success, off: Allowance) -> Known:
    of_success = {held.metric.name: held for held in (goals.share, goals.joules)}
    return of_success.get(objective.name) or known(plan, objective.metric, off)


def _full(label: str, cell: Cell) -> list[str]:
    """That what is best ran with a full KV cache."""
    return [f"{label}: {note}" for note in preemption_notes([s.run for s in cell.trials], advice="")]


def _inferred(every: Iterable[Candidate]) -> Iterator[str]:
    """Which configurations were not run because their runs would have been the same."""
    found: dict[str, list[str]] = {}
    for one in every:
        if one.same_as is not None:
            found.setdefault(one.same_as, []).append(one.label)
    for same_as, labels in found.items():
        yield f"{several(labels)}: would be the same run as {same_as}"


def _best(ran: Sequence[Candidate], least: Least) -> tuple[Candidate | None, bool]:
    for verdicts in (("keeps",), ("may miss",)):
        if fit := [one for one in ran if one.verdict in verdicts]:
            if verdicts == ("keeps",):
                return min(fit, key=partial(_place, least=least)), True
            return max(fit, key=lambda one: one.chance or 0.0), False
    return None, False


def _today(plan: Matrix, every: Mapping[Key, Candidate], today: Sequence[str]) -> Candidate | None:
    """The configuration in use; unless told, that with no knob set, if it was run."""
    if today:
        given = parse_filters(today)
        if unknown := [name for name in given if not called(name, plan.names)]:
            raise RejouleError(f"{unknown[0]} does not vary here", f"choose among {', '.join(plan.names) or 'no knob'}")
        wanted = {meant(name, plan.names): value for name, value in given.items()}
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


def _front(ran: Sequence[Candidate], wanted: Sequence[Objective], least: Least) -> tuple[Candidate, ...]:
    if not wanted:
        return ()
    first = wanted[0]

    def place(one: Candidate) -> float:
        found = one.figures[first.name]
        return inf if found is None else first.sign * found.value

    front: list[Candidate] = []
    for one in sorted(ran, key=lambda one: (place(one), _place(one, least))):
        if not front or _place(one, least) < _place(front[-1], least):
            front.append(one)
    return tuple(front)


def _nearest(ran: Sequence[Candidate], wanted: Sequence[Objective]) -> Candidate | None:
    """By the objective that it misses by most; the first of equal ones."""

    def missed(one: Candidate) -> float:
        found = [(objective, one.figures[objective.name]) for objective in wanted]
        return max((inf if v is None else -o.room(log(v.value) if v.value else -inf) for o, v in found), default=0.0)

    return min(ran, key=missed, default=None)


def _place(one: Candidate, least: Least) -> tuple[bool, float]:
    """In the order of what is least: infinite after all that is finite, and what is not known last."""
    found = value(one, least)
    return found is None, inf if found is None else found.value

"""Pairs of runs in, the causes of their difference out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from typing import Final

import numpy as np

from rejoule.analysis.attribution import Attribution, method_of
from rejoule.analysis.attribution.costs import COEFFICIENTS, Costs
from rejoule.analysis.attribution.joules import attributed, fitted, lay
from rejoule.analysis.attribution.nnls import Array
from rejoule.analysis.attribution.quantile import NORMAL
from rejoule.analysis.causes.amounts import Prices, amounts, known
from rejoule.analysis.causes.result import Basis, Cause, Causes
from rejoule.analysis.causes.rules import exact_rule, fitted_rule
from rejoule.analysis.causes.split import CAUSES, IDLE_LINE, CauseName, Joules, Line, split
from rejoule.analysis.causes.sure import Doubt, doubt, over_trials
from rejoule.analysis.pairing import Pair
from rejoule.analysis.summary.lines import line as line_of
from rejoule.traces.run import Run

Group = tuple[CauseName, ...]
"""Causes that are told as one."""

WORK: Final[Group] = tuple(name for name in CAUSES if name not in ("idle", "tool wait"))
IDLING: Final[Group] = ("idle", "tool wait")

FORM: Final[Mapping[CauseName, float]] = {
    **dict.fromkeys(CAUSES, 0.06),
    "attention": 0.2,
    "clocks": 0.09,
    "engine": 0.09,
    "idle": 0.005,
    "tool wait": 0.005,
}
"""What fitted costs may miss of the joules that change hands for a cause, relative, as a standard deviation, beside
their covariance: of the size that ``python -m benchmarks.causes`` finds on engines whose costs have another form. What
one cause lacks is then in what is left."""
SHIFTS: Final[Mapping[CauseName, float]] = {"prefill": 0.2, "clocks": 0.09}
"""The same of causes whose joules may instead be the filling of steps'."""
LEAST: Final = 0.003
"""And of A's joules, where few change hands."""


@dataclass(frozen=True)
class _Found:
    """Joules of each pair by line and cause, and what is known of them."""

    basis: Basis
    pairs: Sequence[Joules]
    together: Sequence[Group] = ()
    reasons: Mapping[CauseName, str] = field(default_factory=dict)
    doubt: Doubt | None = None


def causes(pairs: Sequence[Pair]) -> Causes | None:
    """Why B's joules differ from A's: of pairs of one trace; ``None`` where no pair has GPU energy on both sides."""
    sides = [(p.a, p.b) for p in pairs if p.a.energy.gpu_j is not None and p.b.energy.gpu_j is not None]
    if not sides:
        return None
    a, b = ([side[i] for side in sides] for i in range(2))
    if all(map(known, (*a, *b))):
        found = _exact(a, b)
    elif all(run.steps is not None for run in (*a, *b)):
        found = _fitted(a, b)
    else:
        found = _totals(a, b, "the engine's steps were not recorded")
    return _told(a, b, found)


def _exact(a: Sequence[Run], b: Sequence[Run]) -> _Found:
    rule, reasons = exact_rule([*a, *b])
    sides = [[amounts(laid) for laid in lay(runs)] for runs in (a, b)]
    pairs = [split(x, y, rule) for x, y in zip(*sides, strict=True)]
    return _Found("counterfactual steps", pairs, (), reasons)


def _fitted(a: Sequence[Run], b: Sequence[Run]) -> _Found:
    rule, held, reasons = fitted_rule(a, b)
    laid = lay([*a, *b])
    # Where clocks differ, no costs fit both sides: each has its own.
    sides = [laid[: len(a)], laid[len(a) :]] if rule.own else [laid]
    fits = [fitted(side) for side in sides]
    told = [attributed(one, costs) for costs, side in zip(fits, sides, strict=True) for one in side]
    reason = next((one.withheld for one in told if one.withheld is not None), None)
    if reason is not None:
        return _totals(a, b, reason)

    def pairs(fits: Sequence[Costs]) -> list[Joules]:
        shared = fits[0] if len(fits) == 1 else _mean(*fits)
        own = [fits[0]] * len(a) + [fits[-1]] * len(b)
        made = [amounts(one, Prices(shared, costs)) for one, costs in zip(laid, own, strict=True)]
        return [split(x, y, rule) for x, y in zip(made[: len(a)], made[len(a) :], strict=True)]

    found = pairs(fits)
    if any(method_of(run) == "step times" for run in (*a, *b)):
        return _Found("step times", found, _joined([held]), reasons)
    moved = _by_cause([{key: abs(joules) for key, joules in each.items()} for each in found])
    a_j = fsum(run.energy.gpu_j or 0.0 for run in a) / len(a)
    form = _form(moved, held[0], a_j)
    for name in IDLING:
        form[CAUSES.index(name), CAUSES.index(name)] += _idle_variance(told[: len(a)]) + _idle_variance(told[len(a) :])
    unsure = doubt(fits, lambda given: _by_cause(pairs(given)), form, a_j)
    return _Found("fitted costs", found, _joined([held, *unsure.together]), reasons, unsure)


def _form(moved: Array, rest: CauseName, a_j: float) -> Array:
    """Covariance of what the form of the costs may have given to the wrong cause."""
    found = np.zeros((len(CAUSES), len(CAUSES)))

    def shift(at: int, to: int, sigma_j: float) -> None:
        variance = sigma_j**2
        found[at, at] += variance
        if at != to:
            found[to, to] += variance
            found[at, to] -= variance
            found[to, at] -= variance

    for at, (name, joules) in enumerate(zip(CAUSES, moved.tolist(), strict=True)):
        if joules > 0.0:
            shift(at, CAUSES.index(rest), FORM[name] * joules)
            shift(at, at, LEAST * a_j)
            shift(at, CAUSES.index("batching"), SHIFTS.get(name, 0.0) * joules)
    return found


def _idle_variance(side: Sequence[Attribution]) -> float:
    """Of idle joules, which sensors blur where work begins and ends: alike in all trials."""
    halves = [one.uncertainty.idle_j or 0.0 for one in side]
    return (fsum(halves) / len(halves) / NORMAL) ** 2


def _mean(a: Costs, b: Costs) -> Costs:
    return replace(a, **dict(zip(COEFFICIENTS, ((a.vector + b.vector) / 2.0).tolist(), strict=True)))


def _totals(a: Sequence[Run], b: Sequence[Run], why: str) -> _Found:
    """What work and idling took, as far as even that is known."""
    idle = [(x.energy.idle_j, y.energy.idle_j) for x, y in zip(a, b, strict=True)]
    apart = all(None not in each for each in idle)
    pairs: list[Joules] = []
    for x, y, (idle_a, idle_b) in zip(a, b, idle, strict=True):
        whole, resting = (y.energy.gpu_j or 0.0) - (x.energy.gpu_j or 0.0), (idle_b or 0.0) - (idle_a or 0.0)
        resting = resting if apart else 0.0
        pairs.append({("", WORK[0]): whole - resting, (IDLE_LINE, "idle"): resting})
    return _Found("totals", pairs, (WORK, IDLING) if apart else ((*WORK, *IDLING),), dict.fromkeys(CAUSES, why))


def _told(a: Sequence[Run], b: Sequence[Run], found: _Found) -> Causes:
    count = len(found.pairs)
    a_j, b_j = (fsum(run.energy.gpu_j or 0.0 for run in side) / count for side in (a, b))
    cells = _means(found.pairs)
    if cells:
        # What rounding leaves goes where it weighs least.
        largest = max(cells, key=lambda cell: abs(cells[cell]))
        cells[largest] += (b_j - a_j) - fsum(cells.values())
    named = {name for group in found.together for name in group}
    groups = [*found.together, *((name,) for name in CAUSES if name not in named)]
    # Equal trials of a model spread by nothing, and trials know nothing of what steps' times leave open.
    silent = found.basis == "step times" or all(run.configuration.engine == "sim" for run in (*a, *b))
    listed = found.basis != "totals"
    made = []
    for group in groups:
        mine = {line: j for (line, cause), j in _of(cells, group).items()}
        lines = _summed(_of(cells, group))
        if not mine:
            continue
        joules = fsum(_of(cells, group).values())
        trials_j = None if silent else over_trials([fsum(_of(each, group).values()) for each in found.pairs])
        half_j = trials_j if found.doubt is None else found.doubt.half_width(group, trials_j)
        reason = next((found.reasons[name] for name in group if name in found.reasons), None)
        if reason is None and len(group) > 1:
            reason = "these runs tell their sum, not each of them"
        made.append(
            Cause(
                group,
                joules,
                joules / a_j if a_j else None,
                half_j,
                _named(lines, 0) if listed else {},
                _named(lines, 1) if listed and len({line[1] for line in lines if isinstance(line, tuple)}) > 1 else {},
                reason,
            )
        )
    made.sort(key=lambda cause: -abs(cause.joules))
    return Causes(a[0].trace, a_j, b_j, count, found.basis, tuple(made))


def _means(pairs: Sequence[Joules]) -> Joules:
    keys = dict.fromkeys(key for each in pairs for key in each)
    return {key: fsum(each.get(key, 0.0) for each in pairs) / len(pairs) for key in keys}


def _of(cells: Joules, group: Group) -> Joules:
    return {key: joules for key, joules in cells.items() if key[1] in group and joules}


def _summed(cells: Joules) -> dict[Line, float]:
    found: dict[Line, float] = {}
    for (line, _), joules in cells.items():
        found[line] = found.get(line, 0.0) + joules
    return found


def _named(lines: Mapping[Line, float], part: int) -> dict[str, float]:
    """By node or by agent, with the lines that no call owes."""
    found: dict[str, float] = {}
    for line, joules in lines.items():
        name = line if isinstance(line, str) else line_of(line[part])
        found[name] = found.get(name, 0.0) + joules
    return found


def _by_cause(pairs: Sequence[Joules]) -> Array:
    cells = _means(pairs)
    return np.array([fsum(joules for (_, cause), joules in cells.items() if cause == name) for name in CAUSES])


def _joined(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Groups that share a name become one; a single name is none."""
    found: list[set[CauseName]] = []
    for group in groups:
        mine = set(group)
        for other in [other for other in found if other & mine]:
            mine |= other
            found.remove(other)
        found.append(mine)
    return tuple(tuple(name for name in CAUSES if name in names) for names in found if len(names) > 1)

"""Pairs of runs in, the causes of their difference out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from typing import Final

from rejoule.analysis.attribution import method_of
from rejoule.analysis.attribution.costs import COEFFICIENTS, Costs
from rejoule.analysis.attribution.joules import attributed, fitted, lay
from rejoule.analysis.causes.amounts import Prices, amounts, known
from rejoule.analysis.causes.form import form, untold
from rejoule.analysis.causes.result import Basis, Cause, Causes
from rejoule.analysis.causes.rules import exact_rule, fitted_rule
from rejoule.analysis.causes.split import CAUSES, IDLE_LINE, CauseName, Joules, split
from rejoule.analysis.causes.sure import Doubt, doubt, over_trials
from rejoule.analysis.causes.views import PARTS, WHOLE, View, held_by, joules_of, mean, table, views
from rejoule.analysis.pairing import Pair
from rejoule.traces.run import Run

Group = tuple[CauseName, ...]
"""Causes that are told as one."""

WORK: Final[Group] = tuple(name for name in CAUSES if name not in ("idle", "tool wait"))
IDLING: Final[Group] = ("idle", "tool wait")

NO_NOISE: Final = "the steps of a model have no noise: no error but the model's own"
NO_READINGS: Final = "nothing tells what each step drew"
ONE_FIT: Final = (
    "causes are by one fit of costs to both sides, tables of joules by a fit to each: the causes of one line need not "
    "add up to its difference there"
)


@dataclass(frozen=True)
class _Found:
    """Joules of each pair by line and cause, and what is known of them."""

    basis: Basis
    pairs: Sequence[Joules]
    together: Sequence[Group] = ()
    reasons: Mapping[CauseName, str] = field(default_factory=dict)
    doubt: Doubt | None = None
    unsure: Mapping[View, str] = field(default_factory=dict)
    """Why a node or an agent has no interval."""
    notes: tuple[str, ...] = ()


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
    return _Found("counterfactual steps", pairs, (), reasons, unsure=dict.fromkeys(views(pairs)[1:], NO_NOISE))


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
    rows = views(found)
    notes = () if rule.own else (ONE_FIT,)
    if any(method_of(run) == "step times" for run in (*a, *b)):
        return _Found(
            "step times", found, _joined([held]), reasons, unsure=dict.fromkeys(rows[1:], NO_READINGS), notes=notes
        )
    moved = table(mean([{key: abs(joules) for key, joules in each.items()} for each in found]), rows)
    a_j = fsum(run.energy.gpu_j or 0.0 for run in a) / len(a)
    missed = form(rows, moved, held[0], told[: len(a)], told[len(a) :], a_j)
    doubts = doubt(fits, lambda given: table(mean(pairs(given)), rows), missed, a_j)
    together = _joined([held, *doubts.together])
    return _Found("fitted costs", found, together, reasons, doubts, untold(rows, told), notes)


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
    cells = mean(found.pairs)
    if cells:
        # What rounding leaves goes where it weighs least.
        largest = max(cells, key=lambda cell: abs(cells[cell]))
        cells[largest] += (b_j - a_j) - fsum(cells.values())
    named = {name for group in found.together for name in group}
    groups = [*found.together, *((name,) for name in CAUSES if name not in named)]
    rows = views(found.pairs)
    # Equal trials of a model spread by nothing, and trials know nothing of what steps' times leave open.
    silent = found.basis == "step times" or all(run.configuration.engine == "sim" for run in (*a, *b))

    def half_j(view: View, group: Group) -> float | None:
        if view in found.unsure:
            return None
        trials_j = None if silent else over_trials([joules_of(each, view, group) for each in found.pairs])
        return trials_j if found.doubt is None else found.doubt.half_width(rows.index(view), group, trials_j)

    made = []
    for group in groups:
        mine = {key: joules for key, joules in cells.items() if key[1] in group and joules}
        if not mine:
            continue
        reason = next((found.reasons[name] for name in group if name in found.reasons), None)
        if reason is None and len(group) > 1:
            reason = "these runs tell their sum, not each of them"
        joules = joules_of(mine, WHOLE)
        there = held_by(mine, rows) if found.basis != "totals" else ()
        nodes, agents = ([view for view in there if view[0] == part] for part in PARTS)
        made.append(
            Cause(
                group,
                joules,
                joules / a_j if a_j else None,
                half_j(WHOLE, group),
                {view[1]: joules_of(mine, view) for view in nodes},
                {view[1]: joules_of(mine, view) for view in agents},
                reason,
                {view[1]: half_j(view, group) for view in nodes},
                {view[1]: half_j(view, group) for view in agents},
            )
        )
    made.sort(key=lambda cause: -abs(cause.joules))
    why = {part: {view[1]: reason for view, reason in found.unsure.items() if view[0] == part} for part in PARTS}
    return Causes(a[0].trace, a_j, b_j, count, found.basis, tuple(made), found.notes, why)


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

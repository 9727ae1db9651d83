"""What fitted costs may miss though nothing of the fit shows it: by how much joules may be with the wrong cause, and by
how much with the wrong node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum, hypot
from typing import Final

import numpy as np

from rejoule.analysis.attribution import Attribution, CallEnergy
from rejoule.analysis.attribution.nnls import Array
from rejoule.analysis.attribution.quantile import NORMAL
from rejoule.analysis.causes.split import CAUSES, IDLE_LINES, CauseName
from rejoule.analysis.causes.views import Part, View
from rejoule.analysis.summary.lines import line as line_of

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


def form(rows: Sequence[View], moved: Array, rest: CauseName, a: Sequence[Attribution], b: Sequence[Attribution],
         a_j: float) -> Array:  # fmt: skip
    """Covariance of each view's causes (views × causes × causes), of the joules that change hands (views × causes).

    ``rest`` is the cause that has what others lack. Joules of a node that may be another node's are ``rest``'s, too,
    and scale its other causes.
    """
    found = np.zeros((len(rows), len(CAUSES), len(CAUSES)))
    last, idle = CAUSES.index(rest), [CAUSES.index(name) for name in IDLE_LINES]
    for at, view in enumerate(rows):
        resting = view[0] == "whole" or view[1] in IDLE_LINES
        sides = [(a_j, 0.0)] * 2 if resting else [_line(side, view) for side in (a, b)]
        found[at] = _wrong_cause(moved[at], last, LEAST * max(joules for joules, _ in sides))
        if resting:
            for cause in idle:
                found[at, cause, cause] += sum(_idle_sigma(side) ** 2 for side in (a, b))
        else:
            found[at, last, last] += sum(sigma**2 for _, sigma in sides)
            relative = hypot(*(sigma / joules if joules > 0.0 else 0.0 for joules, sigma in sides)) / 2.0
            found[at] += np.diag((relative * moved[at]) ** 2)
    return found


def _wrong_cause(moved: Array, last: int, least_j: float) -> Array:
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
            shift(at, last, FORM[name] * joules)
            shift(at, at, least_j)
            shift(at, CAUSES.index("batching"), SHIFTS.get(name, 0.0) * joules)
    return found


def _line(side: Sequence[Attribution], view: View) -> tuple[float, float]:
    """Joules of a node or agent, and their standard deviation: means over trials, which share what they miss."""
    part, name = view
    joules = fsum(c.energy.total_j for one in side for c in one.calls if name == line_of(_owner(part, c)))
    halves = [half for one in side for owner, half in _halves(part, one) if line_of(owner) == name]
    return joules / len(side), fsum(halves) / len(side) / NORMAL


def _halves(part: Part, one: Attribution) -> Iterable[tuple[str | None, float]]:
    return one.uncertainty.nodes.items() if part == "node" else one.uncertainty.agents.items()


def _owner(part: Part, call: CallEnergy) -> str | None:
    return call.node if part == "node" else call.agent


def _idle_sigma(side: Sequence[Attribution]) -> float:
    """Of idle joules, which sensors blur where work begins and ends: alike in all trials."""
    return fsum(one.uncertainty.idle_j or 0.0 for one in side) / len(side) / NORMAL


def untold(rows: Sequence[View], told: Sequence[Attribution]) -> dict[View, str]:
    """Why some views have no interval: nodes and agents that some run cannot tell apart, and joules of no line."""
    found: dict[View, str] = {}
    for one in told:
        for part, groups in (("node", one.uncertainty.together), ("agent", one.uncertainty.agents_together)):
            for names in groups:
                lines = [line_of(name) for name in names]
                for view in rows:
                    if view[0] == part and view[1] in lines:
                        others = " and ".join(line for line in lines if line != view[1])
                        found[view] = f"always worked beside {others}: what each took cannot be told"
    for view in rows:
        if view[1] == "unattributed":
            found[view] = "measured outside of everything that the engine told of"
    return found

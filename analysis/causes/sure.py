"""How sure causes are that rest on fitted costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import hypot, sqrt
from typing import Final

import numpy as np

from rejoule.analysis.attribution.costs import COEFFICIENTS, Costs
from rejoule.analysis.attribution.nnls import Array
from rejoule.analysis.attribution.quantile import NORMAL, t95
from rejoule.analysis.attribution.tied import tied
from rejoule.analysis.causes.split import CAUSES, CauseName

STEP: Final = 0.25
"""Of a coefficient's standard error: how far it is moved to see what causes make of it."""

LOOSE: Final = 3.0
"""Joules of A over those that a cause's error is held against: an error below 5 % of A's joules is no reason to take
causes together."""


@dataclass(frozen=True)
class Doubt:
    covariance_j2: Array
    """Of the causes of each view (views × causes × causes), in the order of ``CAUSES``."""
    together: tuple[tuple[CauseName, ...], ...]
    """Those that these runs cannot tell apart."""

    def half_width(self, view: int, group: Sequence[CauseName], trials_j: float | None) -> float:
        """Of the sum of some: the fit's part, which all trials share, and that of their spread."""
        member = np.array([name in group for name in CAUSES], dtype=np.float64)
        fit_j = NORMAL * sqrt(max(0.0, float(member @ self.covariance_j2[view] @ member)))
        return hypot(fit_j, trials_j or 0.0)


def doubt(fits: Sequence[Costs], causes: Callable[[Sequence[Costs]], Array], form: Array, a_j: float) -> Doubt:
    """By the delta method, with slopes by differences, of fits that are independent.

    ``causes`` makes joules of fits: a row a view, of which the first is the whole, a column a cause. ``form`` is the
    covariance of what the form of the costs may miss (views × causes × causes). Which causes cannot be told apart is a
    matter of the fits alone, and of the whole.
    """
    found = np.zeros_like(form)
    for place, costs in enumerate(fits):
        if not costs.covariance:
            continue
        covariance = np.array(costs.covariance)
        slopes = np.zeros((*form.shape[:2], len(COEFFICIENTS)))
        for i, name in enumerate(COEFFICIENTS):
            value, error = getattr(costs, name), sqrt(max(0.0, float(covariance[i, i])))
            if error > 0.0:
                # No cost is below nothing.
                low, high = max(0.0, value - STEP * error), value + STEP * error
                ends = [causes([*fits[:place], replace(costs, **{name: at}), *fits[place + 1 :]]) for at in (low, high)]
                slopes[:, :, i] = (ends[1] - ends[0]) / (high - low)
        found += slopes @ covariance @ slopes.transpose(0, 2, 1)
    # Names that are tied go by their order among all.
    known = [str(name) for name in CAUSES]
    groups = tied(known, np.full(len(CAUSES), max(a_j, 1e-9) / LOOSE), found[0])
    return Doubt(found + form, tuple(tuple(CAUSES[known.index(name)] for name in group) for group in groups))


def over_trials(values: Sequence[float]) -> float | None:
    """Half-width of the mean of pairs by Student's t; ``None`` of a single one."""
    if len(values) < 2:
        return None
    spread = float(np.std(values, ddof=1))
    return t95(len(values) - 1) * spread / sqrt(len(values))

"""What is known of one figure: of cells that were run by their trials or the model's error, of others by a surface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, log, log1p, sqrt
from typing import Final, Literal

from rejoule.analysis.advice.matrix import Key, Matrix, is_measured
from rejoule.analysis.advice.objective import Objective
from rejoule.analysis.advice.surface import Guess, Place, Surface, fitted
from rejoule.analysis.comparison.allowance import Allowance
from rejoule.analysis.sensitivity.noise import Values, values
from rejoule.analysis.statistics import CONFIDENCE
from rejoule.analysis.summary.summary import METRICS, Metric
from rejoule.traces.student import normal_cdf, t_quantile

Verdict = Literal["keeps", "may miss", "misses", "not known"]

NORMAL: Final = 1.959964
"""The 97.5th percentile of the normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of one configuration."""

    value: float
    low: float | None
    """95 %; ``None`` where nothing is known of its error."""
    high: float | None


@dataclass(frozen=True)
class Known:
    """One figure over a matrix: what was run, and a surface through it."""

    metric: Metric
    guesses: Mapping[Key, Guess]
    """Of the cells that were run, and of those that are the same, as logarithms; an error of ``inf`` is not known."""
    surface: Surface | None
    """``None`` where too little is known for one, and where all is."""
    model: float | None
    """What the model may be off by, a standard error of the logarithm; ``None`` if not known, 0 where measured."""

    def at(self, key: Key, place: Place) -> Guess | None:
        if key in self.guesses:
            return self.guesses[key]
        if self.surface is None:
            return None
        found = self.surface.at(place)
        return Guess(found.log, inf if self.model is None else sqrt(found.error**2 + self.model**2))


def known(plan: Matrix, metric: Metric, off: Allowance, slopes: Sequence[float] = ()) -> Known:
    """``off`` is the model's known error; of the same figure's trials, spreads are pooled.

    ``slopes`` are those that the surface begins with.
    """
    keys, cells = list(plan.cells), list(plan.cells.values())
    found = values(cells, metric.value, False)
    allowed = off.of("workload" if metric in METRICS else "workflows", metric.name)
    model = None if allowed is None else log1p(allowed) / NORMAL
    scale = log(plan.scaled_by.get(metric.name, 1.0))
    guesses, shown = {}, {}
    for i, (key, cell) in enumerate(zip(keys, cells, strict=True)):
        value = found.logs[i]
        if value is not None:
            shown[key] = value + (scale if key in plan.unscaled else 0.0)
            error = _trial_error(found, i) if is_measured(cell) else model
            guesses[key] = Guess(shown[key], inf if error is None else error)
    for key, twin in plan.twins.items():
        if twin.key in guesses:
            shown[key], guesses[key] = shown[twin.key], guesses[twin.key]
    measured = all(map(is_measured, cells))
    places = [plan.place(key) for key in shown]
    whole = len(shown) == len(plan.keys)
    surface = None if whole else fitted(places, list(shown.values()), slopes, found.spread or 0.0)
    return Known(metric, guesses, surface, 0.0 if measured else model)


def _trial_error(found: Values, cell: int) -> float | None:
    """As a normal standard error that gives the interval of Student's t."""
    error = found.error(cell)
    return None if error is None else error * t_quantile(0.5 + CONFIDENCE / 2.0, found.degrees) / NORMAL


def estimate(guess: Guess | None) -> Estimate | None:
    if guess is None:
        return None
    if guess.error == inf:
        return Estimate(exp(guess.log), None, None)
    half = NORMAL * guess.error
    return Estimate(exp(guess.log), exp(guess.log - half), exp(guess.log + half))


def kept(objective: Objective, guess: Guess | None) -> tuple[Verdict, float | None]:
    """Whether an objective is kept, and how likely that is."""
    if guess is None:
        return "not known", None
    room = (log(objective.bound) - guess.log) * objective.sign
    if guess.error == inf:
        return ("keeps" if room >= 0.0 else "misses"), None
    chance = normal_cdf(room / guess.error)
    if abs(room) < NORMAL * guess.error:
        return "may miss", chance
    return ("keeps" if room > 0.0 else "misses"), chance

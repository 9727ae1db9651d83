"""What is known of one figure: of cells that were run by their trials or the model's error, of others by a surface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, fsum, inf, isfinite, log, log1p, sqrt
from typing import Final, Literal

from rejoule.analysis.advice.matrix import Key, Matrix, configured, is_measured
from rejoule.analysis.advice.objective import Objective
from rejoule.analysis.advice.surface import Guess, Place, Surface, fitted
from rejoule.analysis.comparison.allowance import Allowance
from rejoule.analysis.sensitivity.noise import Values, values
from rejoule.analysis.statistics import CONFIDENCE
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.summary import METRICS, Metric
from rejoule.traces.run import PowerCap, Run
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
    """Of the cells that were run, and of those that are the same, as logarithms; an error of ``inf`` is not known. That
    of 0 is ``-inf``."""
    surface: Surface | None
    """``None`` where too little is known for one, and where all is."""
    model: Mapping[Key, float | None] = field(default_factory=dict)
    """What the model may be off by in cells that were never run, under their own caps, as a standard error of the
    logarithm; ``None`` if not known, none where all was measured."""
    untold: frozenset[Key] = frozenset()
    """Cells that were run, or are the same, and do not tell the figure: what others say is not said of them."""
    everywhere: Guess | None = None
    """Of what a replay takes over as recorded: that of all cells, unless they differ or none tells."""

    def told(self, key: Key) -> Guess | None:
        """Without a guess from other cells."""
        return self.guesses.get(key, None if key in self.untold else self.everywhere)

    def at(self, key: Key, place: Place) -> Guess | None:
        if key in self.guesses or key in self.untold or self.surface is None:
            return self.told(key)
        found = self.surface.at(place)
        model = self.model.get(key, 0.0)
        return Guess(found.log, inf if model is None else sqrt(found.error**2 + model**2))


def known(plan: Matrix, metric: Metric, off: Allowance, slopes: Sequence[float] = ()) -> Known:
    """``off`` is the model's known error; of the same figure's trials, spreads are pooled.

    ``slopes`` are those that the surface begins with.
    """
    keys, cells = list(plan.cells), list(plan.cells.values())
    found = values(cells, metric.value, False)
    scope = "workload" if metric in METRICS else "workflows"
    scale = 0.0 if metric.recorded else log(plan.scaled_by.get(metric.name, 1.0))
    guesses: dict[Key, Guess] = {}
    for i, (key, cell) in enumerate(zip(keys, cells, strict=True)):
        value = found.logs[i]
        if metric.recorded or value is None:
            guess = _as_it_is(metric, cell)
        else:
            runs = [s.run for s in cell.trials]
            error = _trial_error(found, i) if is_measured(cell) else _standard(off.of_one(scope, metric.name, runs))
            guess = Guess(value, inf if error is None else error)
        if guess is not None:
            guesses[key] = replace(guess, log=guess.log + scale) if key in plan.unscaled else guess
    guesses |= {key: guesses[twin.key] for key, twin in plan.twins.items() if twin.key in guesses}
    untold = frozenset(key for key in plan.ran if key not in guesses)
    if metric.recorded:
        return Known(metric, guesses, None, untold=untold, everywhere=_common(guesses))
    shown = {key: guess.log for key, guess in guesses.items() if isfinite(guess.log)}
    places = [plan.place(key) for key in shown]
    surface = fitted(places, list(shown.values()), slopes, found.spread or 0.0) if plan.never_run else None
    seen = next((s.run for cell in cells if not is_measured(cell) for s in cell.trials), None)
    model = (
        {}
        if seen is None
        else {key: _standard(off.of_one(scope, metric.name, [_under(plan, key, seen)])) for key in plan.never_run}
    )
    return Known(metric, guesses, surface, model, untold)


def _under(plan: Matrix, key: Key, run: Run) -> Run:
    """A modelled run as if its configuration were that of a cell: whether its cap would have bound is not known."""
    settings = dict(zip(plan.names, key, strict=True))
    return replace(run, configuration=configured(run.configuration, settings), power_cap=PowerCap())


def _standard(allowed: float | None) -> float | None:
    """Of the logarithm, of what is off by more in 5 of 100 cases."""
    return None if allowed is None else log1p(allowed) / NORMAL


def _as_it_is(metric: Metric, cell: Cell) -> Guess | None:
    """Of a figure that may be 0, or is exact: the mean over trials, if all know it and none is below 0."""
    told = [value for trial in cell.trials if (value := metric.value(trial)) is not None]
    if len(told) < len(cell.trials) or min(told) < 0.0:
        return None
    alike = min(told) == max(told)
    value = told[0] if alike else fsum(told) / len(told)
    return Guess(log(value) if value > 0.0 else -inf, 0.0 if metric.recorded and alike else inf)


def _common(guesses: Mapping[Key, Guess]) -> Guess | None:
    found = set(guesses.values())
    return found.pop() if len(found) == 1 else None


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
    room = objective.room(guess.log)
    by_value: Verdict = "keeps" if room >= 0.0 else "misses"
    if guess.error == inf:
        return by_value, None
    if guess.error == 0.0:
        return by_value, float(room >= 0.0)
    chance = normal_cdf(room / guess.error)
    if abs(room) < NORMAL * guess.error:
        return "may miss", chance
    return by_value, chance

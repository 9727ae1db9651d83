"""What a unit of each kind of work costs, fitted to the energy of bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rejoule.analysis.attribution.ledger import IDLE, TERMS
from rejoule.analysis.attribution.nnls import Array, nnls
from rejoule.analysis.attribution.pace import HIDDEN, SPREAD, Timed, pace
from rejoule.analysis.attribution.quantile import NORMAL, t95

SHORTEST_S: Final = 1e-9
"""Anything shorter has no duration worth the name."""

LEAST_J: Final = 1e-9
"""Of a bin; counters tell a millijoule."""
LEAST_VARIANCE: Final = 1e-12
"""Of residuals, relative to the largest bin squared: costs that no bin tells apart stay unknown in an exact fit."""

IDLE_SPREAD: Final = 0.05
"""Of the power of idle stretches within a run about the idle power that was measured around it, relative. On H200s it
was within 2 % before and after 60 runs (``docs/h200.md``)."""

ROUNDS: Final = 5
"""The noise says how much the clock's word weighs, and the fit says what the noise is: as many turns as settle that."""

MEMORY: Final = 6
"""Residuals this many bins apart may go together."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The fitted coefficients in joules, how sure they are, and how much of the energy they leave unexplained."""

    step_j: float = 0.0
    """Of an engine step, whoever takes part."""
    decode_token_j: float = 0.0
    decode_attended_j: float = 0.0
    """Of each token that a decoded token attends to."""
    prefill_token_j: float = 0.0
    """Of a prompt token computed, not found in the prefix cache."""
    prefill_attended_j: float = 0.0
    prompt_step_j: float = 0.0
    """What a step costs more if it holds prompts, whatever their length."""
    experts_j: float = 0.0
    """Of waking all of a model's experts in a step; 0 for a dense model."""
    idle_w: float = 0.0
    misfit: float = 0.0
    """‖fitted − measured‖ / ‖measured‖ over the bins with work, both divided by the root of the bin's duration."""
    covariance: tuple[tuple[float, ...], ...] = ()
    """Of the eight coefficients, in the order above, widened so that 1.96 of its roots hold 95 %."""
    asleep: float = 0.0
    """The chance that a token leaves an expert of the model asleep."""
    power_w: float = 0.0
    """Mean power while the engine had work; 0 where its steps were not watched."""
    pace_s: tuple[float, ...] = ()
    """Seconds of a unit of each kind of work but idling, in the order above."""
    wander: float = 0.0
    """Root mean square of what is left unexplained of a bin and of the next alike, relative to their energy: a sensor's
    error ends with its bin, another process does not."""
    known_idle_w: float | None = None
    """Idle power as measured around the run; ``None`` where it was not."""
    read_idle_w: float | None = None
    """Idle power by the run's own readings alone; ``None`` where nothing else was known of it."""
    read_idle_error_w: float = 0.0
    """Its standard error."""

    @property
    def vector(self) -> Array:
        return np.array([getattr(self, name) for name in COEFFICIENTS])


COEFFICIENTS: Final = tuple(f.name for f in fields(Costs))[: len(TERMS)]


@dataclass(frozen=True)
class Sample:
    """What one run says of its costs: features (B × terms), energy and duration of its bins."""

    features: Array
    energy_j: Array
    duration_s: Array
    told: NDArray[np.bool_]
    """Whether the energy of a bin was read at all, rather than left over."""
    timed: Timed | None = None
    """What the engine's steps took; ``None`` where they were not watched."""
    idle_w: float | None = None
    """Idle power as it was measured around the run."""


def fit(samples: Sequence[Sample], asleep: float = 0.0) -> Costs:
    """Weighted non-negative least squares over the bins of all samples, held near what the clock says.

    A bin's variance is taken to grow with its duration, as that of a sum of independent errors does, and to go together
    with its neighbours' as far as the residuals do. A cost is expected at what its time is worth, ± ``SPREAD``; without
    steps, between nothing and all the energy. This is ridge regression towards a prior (Hoerl and Kennard,
    *Technometrics* 12:1, 1970): costs that the run cannot tell apart keep the prior's width.
    """
    columns, target = _stacked(samples)
    prior = _prior(samples, columns, target)
    problem = _Problem(columns, target, prior)
    fitted = problem.solved()
    busy = columns[:, :IDLE].any(axis=1)
    size = float(np.linalg.norm(target[busy]))
    residual = target - columns @ fitted.costs
    misfit = float(np.linalg.norm(residual[busy])) / size if size > 0.0 else 0.0
    rows = tuple(tuple(map(float, row)) for row in problem.covariance(fitted))
    read = (None, 0.0) if prior.idle_w is None else _read_idle(columns, target, prior)
    found = Costs(
        misfit=misfit,
        covariance=rows,
        asleep=asleep,
        power_w=prior.power_w,
        pace_s=prior.pace_s,
        wander=_wander(residual, target),
        known_idle_w=prior.idle_w,
        read_idle_w=read[0],
        read_idle_error_w=read[1],
    )
    return replace(found, **dict(zip(COEFFICIENTS, fitted.costs.tolist(), strict=True)))


def _wander(residual: Array, target: Array) -> float:
    size = float(target @ target)
    return float(np.sqrt(max(0.0, float(residual[1:] @ residual[:-1])) / size)) if size > 0.0 else 0.0


def missed(sample: Sample) -> float:
    """How much of its energy this sample's own costs leave unexplained, where they are held close to the clock's."""
    columns, target = _stacked([sample])
    found = _Problem(columns, target, _prior([sample], columns, target)).solved(rounds=1)
    size = float(np.linalg.norm(target))
    return float(np.linalg.norm(target - columns @ found.costs)) / size if size > 0.0 else 0.0


def _stacked(samples: Sequence[Sample]) -> tuple[Array, Array]:
    """Features and energy of the bins that were read, both divided by the root of the bin's duration."""
    told = np.concatenate([s.told for s in samples])
    features = np.vstack([s.features for s in samples])[told]
    energy_j = np.concatenate([s.energy_j for s in samples])[told]
    duration_s = np.concatenate([s.duration_s for s in samples])[told]
    root = np.sqrt(np.where(duration_s > SHORTEST_S, duration_s, 1.0))
    energy_j = np.where(np.abs(energy_j) > LEAST_J, energy_j, 0.0)  # what no sensor tells from nothing only overflows
    return features / root[:, None], energy_j / root


@dataclass(frozen=True)
class _Prior:
    """What the costs are expected to be, and how far they may be from that."""

    expected: Array
    covariance: Array
    held: NDArray[np.bool_]
    """Which of them the fit is held near; the others may be anything, as sure as the bins make them."""
    power_w: float = 0.0
    pace_s: tuple[float, ...] = ()
    idle_w: float | None = None

    @property
    def root(self) -> tuple[Array, Array]:
        """Scales and, in those, the upper triangle whose square is the inverse of the covariance."""
        scale = np.sqrt(np.diag(self.covariance))
        there = scale > 0.0
        scale = np.where(there, scale, 1.0)
        relative = self.covariance / np.outer(scale, scale) + np.diag(np.where(there, 1e-6, 1.0))
        return np.where(there, scale, 0.0), np.linalg.inv(_factor(relative)).astype(np.float64)


def _factor(relative: Array) -> Array:
    """Cholesky's of a correlation matrix; what rounding made indefinite is given the least variances it lacks."""
    try:
        factor = np.linalg.cholesky(relative)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(relative)
        factor = np.linalg.cholesky((vectors * np.maximum(values, 1e-6)) @ vectors.T)
    return np.asarray(factor, dtype=np.float64)


def _prior(samples: Sequence[Sample], columns: Array, target: Array) -> _Prior:
    most = np.array([_most(target, columns[:, j]) for j in range(len(TERMS))])
    # Between nothing and all the energy, evenly.
    expected, covariance = np.zeros(len(TERMS)), np.diag(most**2 / 12.0)
    known_w = [s.idle_w for s in samples if s.idle_w is not None]
    idle_w = sum(known_w) / len(known_w) if len(known_w) == len(samples) else None
    if idle_w is not None:
        expected[IDLE] = idle_w
        covariance[IDLE, IDLE] = (IDLE_SPREAD * idle_w) ** 2
    timed = [s.timed for s in samples if s.timed is not None]
    if len(timed) < len(samples):
        return _Prior(
            expected, covariance, np.arange(len(TERMS)) == (IDLE if idle_w is not None else -1), idle_w=idle_w
        )
    busy_s = sum(float(t.seconds.sum()) for t in timed)
    idle_s = sum(float(s.features[:, IDLE].sum()) for s in samples)
    busy_j = sum(float(s.energy_j.sum()) for s in samples) - expected[IDLE] * idle_s
    power_w = max(0.0, float(busy_j) / busy_s) if busy_s > SHORTEST_S else 0.0
    told = pace(timed)
    expected[:IDLE] = power_w * told.seconds
    covariance[:IDLE, :IDLE] = power_w**2 * told.covariance
    own = (SPREAD * expected[:IDLE]) ** 2 + (HIDDEN * most[:IDLE]) ** 2
    covariance[:IDLE, :IDLE] += np.diag(own)
    held = (np.arange(len(TERMS)) != IDLE) | (idle_w is not None)
    return _Prior(expected, covariance, held, power_w, tuple(told.seconds.tolist()), idle_w)


def _most(target: Array, column: Array) -> float:
    """What a unit costs if it takes all the energy of the bins that it is in; 0 where there is none."""
    whole = float(column.sum())
    return float(np.clip(target[column > 0.0], 0.0, None).sum()) / whole if whole > SHORTEST_S else 0.0


@dataclass(frozen=True)
class _Fitted:
    costs: Array
    variance: float
    """Of a bin's residual, divided by the root of its duration."""


@dataclass(frozen=True)
class _Problem:
    columns: Array
    target: Array
    prior: _Prior

    def solved(self, rounds: int = ROUNDS) -> _Fitted:
        scale, root = self.prior.root
        columns = self.columns * scale
        start = self.prior.expected / np.where(scale > 0.0, scale, 1.0)
        unit = float(np.abs(self.target).max()) if len(self.target) else 0.0
        least = LEAST_VARIANCE * unit**2
        found = start
        variance = max(least, float(np.mean((self.target - columns @ found) ** 2)) if unit else 0.0)
        for _ in range(rounds):
            weight = np.sqrt(variance)
            stacked = np.vstack([columns, weight * root[self.prior.held]])
            found = nnls(stacked, np.concatenate([self.target, weight * (root @ start)[self.prior.held]]))
            residual = self.target - columns @ found
            variance = max(least, float(residual @ residual) / self._freedom(variance))
        return _Fitted(found * scale, variance)

    def _freedom(self, variance: float) -> float:
        """Bins less the coefficients that they settle, rather than the prior."""
        scale, root = self.prior.root
        values = np.linalg.svd(self.columns * scale @ np.linalg.inv(root), compute_uv=False) ** 2
        settled = float((values / (values + variance)).sum()) if variance > 0.0 else float(len(values))
        return max(1.0, len(self.target) - settled)

    def covariance(self, fitted: _Fitted) -> Array:
        """Of the sandwich: the bins' noise as far as it goes together, and the prior's own width."""
        scale, root = self.prior.root
        columns = self.columns * scale
        variance = fitted.variance
        if variance <= 0.0:
            return np.zeros((len(scale), len(scale)))
        r = np.linalg.qr(np.vstack([columns, np.sqrt(variance) * root]), mode="r")
        inverse = np.linalg.pinv(r)
        bread = inverse @ inverse.T
        residual = self.target - self.columns @ fitted.costs
        middle = variance * (together(residual) * columns.T @ columns + variance * root.T @ root)
        wide = t95(self._freedom(variance)) / NORMAL
        found: Array = wide**2 * (bread @ middle @ bread) * np.outer(scale, scale)
        return found


def together(residual: Array) -> float:
    """By how much correlated residuals widen what they say, as a factor on the variance (Bartlett's weights: Newey and
    West, *Econometrica* 55:3, 1987). Neighbours that make up for each other narrow nothing."""
    whole = float(residual @ residual)
    if whole <= 0.0 or len(residual) <= MEMORY:
        return 1.0
    pairs = ((k, float(residual[k:] @ residual[:-k]) / whole) for k in range(1, MEMORY + 1))
    return max(1.0, 1.0 + 2.0 * sum((1.0 - k / (MEMORY + 1.0)) * rho for k, rho in pairs))


def _read_idle(columns: Array, target: Array, prior: _Prior) -> tuple[float, float]:
    """Idle power and its standard error, had it not been measured around the run."""
    wide = prior.covariance.copy()
    wide[IDLE, IDLE] *= 20.0**2
    alone = _Problem(columns, target, replace(prior, covariance=wide))
    found = alone.solved()
    return float(found.costs[IDLE]), float(np.sqrt(max(0.0, alone.covariance(found)[IDLE, IDLE])))

"""Least squares for a few positive parameters, robust against outliers, that says how well it knows each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

HUBER: Final = 1.5
"""Residuals beyond so many deviations count linearly (Huber, *Annals of Mathematical Statistics* 35:1, 1964)."""
PASSES: Final = 2
NORMAL: Final = 1.4826
"""Of a normal distribution, the standard deviation over the median of absolute residuals."""
LEAST_DEVIATION: Final = 1e-3
"""No model is truer than that."""
OUTLIER: Final = 0.5
"""Beyond it a residual is not worse."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A positive number to find: where to begin, and between which bounds."""

    name: str
    start: float
    low: float = 1e-9
    high: float = 1e9
    prior: float | None = None
    """Standard deviation of its logarithm before anything was measured; ``None`` is that of the fit."""


@dataclass(frozen=True, slots=True)
class Search:
    """How it is looked for."""

    step: float = 1e-4
    """Of a parameter's logarithm, for the numerical derivative; wider than the jumps of a prediction that jumps."""
    rounds: int = 60
    converged: float = 1e-7
    """A relative change of the cost below which it is over."""


USUAL: Final = Search()


@dataclass(frozen=True, slots=True)
class Found:
    values: Mapping[str, float]
    known: Mapping[str, float]
    """Relative standard error of each; one that the data say nothing of keeps that of the prior."""
    misfit: float
    """Weighted sum of absolute residuals, each at most ``OUTLIER``: tells two fits of the same data apart."""


def least_squares(
    predict: Callable[[Mapping[str, float]], Vector],
    measured: Vector,
    weights: Vector,
    parameters: Sequence[Parameter],
    *,
    deviation: float = 0.05,
    prior: float = 1.0,
    search: Search = USUAL,
) -> Found:
    """Fits ``predict`` to ``measured``, both positive, by their relative difference.

    Minimises the sum of weight · ρ((log predicted - log measured)/deviation) + ((log θ - log start)/prior)², with ρ
    Huber's, by Levenberg and Marquardt's steps over log θ (Marquardt, *SIAM Journal* 11:2, 1963). The second term keeps
    at its start what the data do not determine. ``deviation`` is a first guess; it is then taken from the residuals.
    """
    start = np.log([p.start for p in parameters])
    low, high = np.log([p.low for p in parameters]), np.log([p.high for p in parameters])
    goal = np.log(measured)

    def residuals(at: Vector) -> Vector:
        values = {p.name: float(v) for p, v in zip(parameters, np.exp(at), strict=True)}
        return np.asarray(np.log(predict(values)) - goal)

    priors = np.array([prior if p.prior is None else p.prior for p in parameters])
    at = np.clip(start, low, high)
    for _ in range(PASSES):
        at, hessian = _descend(residuals, at, weights, deviation, (low, start, high), priors, search)
        deviation = max(LEAST_DEVIATION, NORMAL * float(np.median(np.abs(residuals(at)))))
    spread = np.sqrt(np.diag(np.linalg.inv(hessian)))
    names = [p.name for p in parameters]
    values, known = (dict(zip(names, map(float, found), strict=True)) for found in (np.exp(at), spread))
    return Found(values, known, float(weights @ np.minimum(np.abs(residuals(at)), OUTLIER)))


def _descend(
    residuals: Callable[[Vector], Vector],
    at: Vector,
    weights: Vector,
    deviation: float,
    bounds: tuple[Vector, Vector, Vector],
    prior: Vector,
    search: Search,
) -> tuple[Vector, Vector]:
    """The parameters of least cost near ``at``, and the cost's curvature there."""
    low, start, high = bounds

    def cost(apart: Vector, at: Vector) -> float:
        size = np.abs(apart)
        rho = np.where(size <= HUBER, size**2, 2 * HUBER * size - HUBER**2)
        return float(weights @ rho + np.sum(((at - start) / prior) ** 2))

    apart = residuals(at) / deviation
    best, damping = cost(apart, at), 1e-3
    hessian = np.eye(len(at))
    for _ in range(search.rounds):
        slope = np.empty((len(apart), len(at)))
        for i in range(len(at)):
            step = search.step if at[i] + search.step <= high[i] else -search.step
            moved = at.copy()
            moved[i] += step
            slope[:, i] = (residuals(moved) / deviation - apart) / step
        influence = weights * np.minimum(1.0, HUBER / np.maximum(np.abs(apart), 1e-12))
        hessian = slope.T @ (influence[:, None] * slope) + np.diag(1 / prior**2)
        gradient = slope.T @ (influence * apart) + (at - start) / prior**2
        before = best
        while damping < 1e9:
            moved = np.clip(at - np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient), low, high)
            tried = residuals(moved) / deviation
            if (found := cost(tried, moved)) < best:
                at, apart, best, damping = moved, tried, found, damping / 10
                break
            damping *= 10
        else:
            break
        if before - best <= search.converged * before:
            break
    return at, hessian

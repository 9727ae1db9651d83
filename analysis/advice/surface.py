"""A figure over the knobs' values, from the few cells that were run: kriging, which says how far off it may be.

Sacks, Welch, Mitchell and Wynn, *Statistical Science* 4:4, 1989: a Gaussian process of the figure's logarithm with a
constant mean. Its covariance is the product over the knobs of 1 + θ C, where C says how alike two values are and θ how
much the knob moves the figure (the ANOVA kernel of Stitson and others, in *Advances in Kernel Methods*, 1999): the
effects of single knobs add up, and two of them depend on each other by the product of their own. What is likeliest is
taken for θ; of a knob that was not moved, what is usual. What leaving each cell out would have missed beyond what was
expected widens the errors of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating[Any]]
Place = tuple[float | str, ...]
"""Of a cell: numbers, each about 0 to 1 or 2, along which the figure changes evenly, and words that have no order."""

USUAL: Final = 0.03
"""θ, the variance of a logarithm: a knob moves a figure by about 17 %."""
THETAS: Final = tuple(10.0 ** (k / 2) for k in range(-18, 2))
NUGGET: Final = 1e-12
"""Usual variance of what no knob explains: rounding."""
NUGGETS: Final = tuple(10.0**k for k in range(-12, -1))
SPREAD: Final = log(30.0)
"""Standard deviation of what is thought of these variances before, in logarithms."""
SWEEPS: Final = 3
LEAST: Final = 1e-6
"""Standard deviation of a logarithm below which nothing is told."""
FEW: Final = 3
"""Cells below which a surface says nothing."""


@dataclass(frozen=True)
class Guess:
    """A logarithm, and its standard error."""

    log: float
    error: float


@dataclass(frozen=True)
class Surface:
    """Fitted to the logarithms of one figure."""

    places: tuple[Place, ...]
    thetas: tuple[float, ...]
    inverse: Numbers
    """Of the cells' covariances."""
    weights: Numbers
    mean: float
    slopes: tuple[float, ...]
    widening: float
    """By how much leaving cells out says that errors are more than the fit's own; at least 1."""

    def at(self, place: Place) -> Guess:
        near = _covariances(_alike((place,), self.places), self.thetas)[0]
        known = self.inverse @ near
        alone = float(np.prod(1.0 + np.array(self.thetas)))
        rest = alone - float(near @ known) + (1.0 - float(known.sum())) ** 2 / float(self.inverse.sum())
        log = self.mean + _trend(place, self.slopes) + float(near @ self.weights)
        return Guess(log, max(LEAST, self.widening * sqrt(max(0.0, rest))))


def fitted(
    places: Sequence[Place], logs: Sequence[float], slopes: Sequence[float] = (), noise: float = 0.0
) -> Surface | None:
    """``None`` with fewer than ``FEW`` cells.

    ``slopes`` are what the logarithm is thought to change by along each part of a place before anything is known, and
    ``noise`` is the standard deviation of a cell's own.
    """
    if len(places) < FEW:
        return None
    values = np.array([value - _trend(place, slopes) for place, value in zip(places, logs, strict=True)])
    alike = _alike(places, places)
    # Of every knob, and last of what none explains.
    choices = [THETAS if float(each.min()) < 1.0 else () for each in alike] + [NUGGETS]
    found = (*(USUAL for _ in alike), NUGGET)
    best = _likelihood(alike, values, found, noise)
    for _ in range(SWEEPS):
        for k, several in enumerate(choices):
            for one in several:
                tried = (*found[:k], one, *found[k + 1 :])
                if (likely := _likelihood(alike, values, tried, noise)) > best:
                    best, found = likely, tried
    inverse = _inverse(alike, found, noise)
    mean, weights = _solved(inverse, values)
    missed = weights / np.sqrt(np.diag(inverse))
    widening = max(1.0, sqrt(float((missed**2).mean())))
    return Surface(tuple(places), found[:-1], inverse, weights, mean, tuple(slopes), widening)


def _trend(place: Place, slopes: Sequence[float]) -> float:
    return sum(slope * part for part, slope in zip(place, slopes, strict=False) if not isinstance(part, str))


def _likelihood(alike: Numbers, values: Numbers, variances: Sequence[float], noise: float) -> float:
    """Its logarithm, with what is thought of the variances before."""
    inverse = _inverse(alike, variances, noise)
    mean, weights = _solved(inverse, values)
    size = -float(np.linalg.slogdet(inverse)[1])
    before = sum((log(theta / USUAL) / SPREAD) ** 2 for theta in variances[:-1])
    before += (log(variances[-1] / NUGGET) / SPREAD) ** 2
    return -0.5 * (float((values - mean) @ weights) + size + before)


def _solved(inverse: Numbers, values: Numbers) -> tuple[float, Numbers]:
    mean = float(inverse.sum(axis=0) @ values / inverse.sum())
    return mean, inverse @ (values - mean)


def _inverse(alike: Numbers, variances: Sequence[float], noise: float) -> Numbers:
    own = (variances[-1] + noise**2) * np.eye(alike.shape[1])
    found: Numbers = np.linalg.inv(_covariances(alike, variances[:-1]) + own)
    return found


def _covariances(alike: Numbers, thetas: Sequence[float]) -> Numbers:
    found: Numbers = np.prod(1.0 + np.array(thetas)[:, None, None] * alike, axis=0)
    return found


def _alike(a: Sequence[Place], b: Sequence[Place]) -> Numbers:
    """Knobs × places × places: Matérn's correlation with ν = 5/2 of numbers; of words, whether they are the same."""
    found = []
    for mine, other in zip(zip(*a, strict=True), zip(*b, strict=True), strict=True):
        if any(isinstance(x, str) for x in (*mine, *other)):
            found.append(np.array([[float(x == y) for y in other] for x in mine]))
        else:
            far = sqrt(5.0) * np.abs(np.subtract.outer(np.array(mine, float), np.array(other, float)))
            found.append((1.0 + far + far * far / 3.0) * np.exp(-far))
    return np.array(found)

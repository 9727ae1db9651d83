"""A figure over the knobs' values, from the few cells that were run: kriging, which says how far off it may be.

Sacks, Welch, Mitchell and Wynn, *Statistical Science* 4:4, 1989: a Gaussian process with a constant mean and a product
of correlations, one a knob, whose lengths have the greatest likelihood. What leaving each cell out would have missed
beyond what was expected widens the errors of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import exp, log, sqrt
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating[Any]]
Place = tuple[float | str, ...]
"""Of a cell: for each knob its rank among the values, from 0 to 1, or a word where values have no order."""

LENGTHS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""In units of a knob's whole range; for words, the more, the more alike."""
SWEEPS: Final = 2
NUGGET: Final = 1e-5
"""Relative: keeps equal places apart, as rounding does."""
LEAST: Final = 1e-4
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
    lengths: tuple[float, ...]
    inverse: Numbers
    """Of the cells' correlations."""
    weights: Numbers
    mean: float
    variance: float
    widening: float
    """By how much leaving cells out says that errors are more than the fit's own; at least 1."""

    def at(self, place: Place) -> Guess:
        near = _correlations((place,), self.places, self.lengths)[0]
        known = self.inverse @ near
        ones = float(self.inverse.sum())
        rest = max(0.0, 1.0 - float(near @ known) + (1.0 - float(known.sum())) ** 2 / ones)
        return Guess(self.mean + float(near @ self.weights), max(LEAST, self.widening * sqrt(self.variance * rest)))


def fitted(places: Sequence[Place], logs: Sequence[float], noise: float = 0.0) -> Surface | None:
    """``noise`` is the standard deviation of a cell's own logarithm. ``None`` with fewer than ``FEW`` cells."""
    count = len(places)
    if count < FEW:
        return None
    values = np.array(logs)
    spread = float(values.var()) or LEAST**2
    nugget = NUGGET + noise**2 / spread
    knobs = len(places[0])
    lengths = (1.0,) * knobs
    best = _likelihood(places, values, lengths, nugget)
    # All lengths at once where they are few, else one after another.
    sets = list(product(LENGTHS, repeat=knobs)) if len(LENGTHS) ** knobs <= 200 else []
    for _ in range(1 if sets else SWEEPS):
        tried = sets or [(*lengths[:k], one, *lengths[k + 1 :]) for k in range(knobs) for one in LENGTHS]
        for one in tried:
            found = _likelihood(places, values, one, nugget)
            if found > best:
                best, lengths = found, one
    inverse: Numbers = np.linalg.inv(_correlations(places, places, lengths) + nugget * np.eye(count))
    mean = float(inverse.sum(axis=0) @ values / inverse.sum())
    weights = inverse @ (values - mean)
    variance = max(float((values - mean) @ weights) / (count - 1), LEAST**2)
    diagonal = np.diag(inverse)
    missed = weights / diagonal / np.sqrt(variance / diagonal)
    return Surface(tuple(places), lengths, inverse, weights, mean, variance, max(1.0, sqrt(float((missed**2).mean()))))


def _likelihood(places: Sequence[Place], values: Numbers, lengths: Sequence[float], nugget: float) -> float:
    matrix = _correlations(places, places, lengths) + nugget * np.eye(len(places))
    sign, size = np.linalg.slogdet(matrix)
    inverse = np.linalg.inv(matrix)
    mean = float(inverse.sum(axis=0) @ values / inverse.sum())
    off = values - mean
    variance = float(off @ inverse @ off) / len(places)
    return -float("inf") if sign <= 0 or variance <= 0 else -0.5 * (len(places) * log(variance) + float(size))


def _correlations(a: Sequence[Place], b: Sequence[Place], lengths: Sequence[float]) -> Numbers:
    found = np.ones((len(a), len(b)))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            for mine, other, length in zip(x, y, lengths, strict=True):
                found[i, j] *= _correlation(mine, other, length)
    return found


def _correlation(a: Any, b: Any, length: float) -> float:
    """Matérn's with ν = 5/2 of ranks; of words, 1 or one number for all that differ."""
    if isinstance(a, str) or isinstance(b, str):
        return 1.0 if a == b else exp(-0.5 / length)
    far = sqrt(5.0) * abs(float(a) - float(b)) / length
    return (1.0 + far + far * far / 3.0) * exp(-far)

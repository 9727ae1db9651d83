"""Means and ratios with intervals, and how many of them may be believed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan, cos, erfc, exp, fsum, pi, sin, sqrt

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float

    def within(self, margin: float) -> bool:
        return -margin <= self.low and self.high <= margin


@dataclass(frozen=True, slots=True)
class Mean:
    value: float
    interval: Interval | None
    """``None`` for one value, or equal ones: they say nothing of their spread."""
    count: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """By how much paired values changed: ``change`` is −0.41 where B is 41 % less than A."""

    change: float
    interval: Interval | None
    p: float | None
    """Two-sided paired t-test on the log ratios."""
    pairs: int


def mean(values: Sequence[float], confidence: float = CONFIDENCE) -> Mean:
    """The arithmetic mean with its t-interval."""
    count = len(values)
    if min(values) == max(values):
        return Mean(values[0], None, count)
    centre = fsum(values) / count
    margin = t_quantile(0.5 + confidence / 2.0, count - 1) * _standard_error(values, centre)
    return Mean(centre, Interval(centre - margin, centre + margin), count)


def paired_ratio(
    a: Sequence[float], b: Sequence[float], seed: int = 0, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> Ratio:
    """The geometric mean of b/a, less one, with a percentile bootstrap interval over pairs.

    The bootstrap is Efron and Tibshirani's (*An Introduction to the Bootstrap*, 1993, chapter 13). With few pairs it is
    too narrow, so its tails are taken from where the t distribution would cut them (the expanded percentile interval:
    Hesterberg, *The American Statistician* 69:4, 2015).
    """
    logs = np.log(np.asarray(b, dtype=np.float64)) - np.log(np.asarray(a, dtype=np.float64))
    count = len(logs)
    centre = fsum(logs) / count
    change = exp(centre) - 1.0
    if count < 2:
        return Ratio(change, None, None, count)
    chosen = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    tail = normal_cdf(-sqrt(count / (count - 1)) * t_quantile(0.5 + confidence / 2.0, count - 1))
    low, high = np.quantile(logs[chosen].mean(axis=1), (tail, 1.0 - tail))
    error = _standard_error(list(logs), centre)
    # Equal differences, as in virtual time, have no spread at all beyond rounding.
    if error <= 1e-12:
        p = 1.0 if abs(centre) <= 1e-12 else 0.0
    else:
        p = max(0.0, 2.0 * t_cdf(-abs(centre) / error, count - 1))
    return Ratio(change, Interval(exp(low) - 1.0, exp(high) - 1.0), p, count)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for there being several (Holm, *Scandinavian Journal of Statistics* 6:2, 1979)."""
    count = len(p_values)
    adjusted = [0.0] * count
    highest = 0.0
    for rank, i in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def normal_cdf(x: float) -> float:
    return 0.5 * erfc(-x / sqrt(2.0))


def t_cdf(t: float, degrees: int) -> float:
    """Student's t, by its finite series (Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4)."""
    theta = atan(t / sqrt(degrees))
    even = degrees % 2 == 0
    term = 1.0 if even else cos(theta)
    series = [term] if degrees > 1 else []
    for k in range(2 if even else 3, degrees - 1, 2):
        term *= (k - 1) / k * cos(theta) ** 2
        series.append(term)
    inside = sin(theta) * fsum(series) if even else 2.0 / pi * (theta + sin(theta) * fsum(series))
    return 0.5 + 0.5 * inside


def t_quantile(probability: float, degrees: int) -> float:
    """The value that Student's t stays below with this probability, by bisection."""
    low, high = -1.0, 1.0
    while t_cdf(low, degrees) > probability:
        low *= 2.0
    while t_cdf(high, degrees) < probability:
        high *= 2.0
    while high - low > 1e-12 * max(1.0, abs(low)):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2.0


def percentile(values: Sequence[float], share: float) -> float | None:
    """Linear interpolation between order statistics; ``None`` of nothing."""
    return float(np.quantile(values, share)) if values else None


def _standard_error(values: Sequence[float], centre: float) -> float:
    return sqrt(fsum((v - centre) ** 2 for v in values) / (len(values) - 1) / len(values))

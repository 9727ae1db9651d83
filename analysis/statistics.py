"""Means with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt

from rejoule.traces.student import t_quantile

CONFIDENCE = 0.95


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


def mean(values: Sequence[float], confidence: float = CONFIDENCE) -> Mean:
    """The arithmetic mean with its t-interval."""
    count = len(values)
    if min(values) == max(values):
        return Mean(values[0], None, count)
    centre = fsum(values) / count
    error = sqrt(fsum((v - centre) ** 2 for v in values) / (count - 1) / count)
    margin = t_quantile(0.5 + confidence / 2.0, count - 1) * error
    return Mean(centre, Interval(centre - margin, centre + margin), count)

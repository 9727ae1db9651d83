"""Student's t: what the mean of a few values may be by chance, and which differences so few can find.

Plain arithmetic that both sides of a run folder need: ``replay`` before the runs are made, ``analysis`` after.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import atan, cos, erfc, exp, expm1, fsum, lgamma, log, log1p, pi, sin, sqrt
from typing import Final

CHANCE: Final = 0.8
"""Of finding a difference that is there, wherever trials are said to see it: 4 of 5 cases."""
MOST_PAIRS: Final = 1000
_POINTS: Final = 400


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


@lru_cache(maxsize=1024)
def t_quantile(probability: float, degrees: int) -> float:
    """The value that Student's t stays below with this probability, by bisection."""
    low, high = -1.0, 1.0
    while t_cdf(low, degrees) > probability:
        low *= 2.0
    while t_cdf(high, degrees) < probability:
        high *= 2.0
    return _crossing(lambda t: t_cdf(t, degrees), probability, low, high)


def power(effect: float, degrees: int, level: float) -> float:
    """The chance that a two-sided t-test at ``level`` finds an effect of so many standard errors.

    The noncentral t, as the mean over what the spread may be estimated to be: w² times the degrees is χ², and given w
    the statistic is normal (Johnson, Kotz and Balakrishnan, *Continuous Univariate Distributions* 2, 1995, chapter 31).
    """
    cut = t_quantile(1.0 - level / 2.0, degrees)
    # Simpson's rule over w; beyond 1 + 7/√degrees the density is below 1e-9.
    step = (1.0 + 7.0 / sqrt(degrees)) / _POINTS
    constant = log(2.0) + degrees / 2.0 * log(degrees / 2.0) - lgamma(degrees / 2.0)
    parts = []
    for i in range(_POINTS + 1):
        w = max(i * step, 1e-12)
        density = exp(constant + (degrees - 1) * log(w) - degrees * w * w / 2.0)
        weight = 1 if i in (0, _POINTS) else 4 if i % 2 else 2
        parts.append(weight * density * (normal_cdf(effect - cut * w) + normal_cdf(-effect - cut * w)))
    return fsum(parts) * step / 3.0


def detectable(spread: float, pairs: int, level: float) -> float:
    """The least relative increase that so many pairs, whose log ratios spread so, find in ``CHANCE`` of cases."""
    degrees = pairs - 1
    high = 4.0
    while power(high, degrees, level) < CHANCE:
        high *= 2.0
    effect = _crossing(lambda effect: power(effect, degrees, level), CHANCE, 0.0, high, 1e-6)
    return expm1(effect * spread / sqrt(pairs))


def pairs_needed(change: float, spread: float, level: float) -> int | None:
    """The fewest pairs that find a relative change in ``CHANCE`` of cases; ``None`` where ``MOST_PAIRS`` do not."""

    def enough(pairs: int) -> bool:
        return power(log1p(change) / spread * sqrt(pairs), pairs - 1, level) >= CHANCE

    if spread <= 0.0 or enough(2):
        return 2
    if not enough(MOST_PAIRS):
        return None
    low, high = 2, MOST_PAIRS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _crossing(
    rising: Callable[[float], float], wanted: float, low: float, high: float, precision: float = 1e-12
) -> float:
    while high - low > precision * max(1.0, abs(low)):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2.0

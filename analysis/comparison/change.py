"""By how much paired values changed: verdict, p and interval from one t-test on the logarithms of their ratios.

The log ratio of each pair is one observation. Pairing takes out what both sides share, and whatever else the spreads
of A and B are, their difference has one of its own. ``docs/statistics.md`` says when the intervals hold, and when not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import expm1, fsum, log, log1p, sqrt
from typing import Final

from rejoule.analysis.statistics import CONFIDENCE, Interval
from rejoule.traces.student import t_cdf, t_quantile

MARGIN: Final = 0.02
"""Changes within ±2 % are no difference."""
ROUNDING: Final = 1e-9
"""Relative: below it, values are equal."""


@dataclass(frozen=True, slots=True)
class Change:
    """Of B against A."""

    value: float
    """(B − A) / A as the geometric mean over pairs; with ``differences``, B − A as their arithmetic mean."""
    interval: Interval | None
    """95 %; ``None`` where nothing is known of the spread."""
    p: float | None
    """Two-sided, against no change."""
    p_same: float | None
    """Against a change of ``MARGIN`` or more in either direction: the greater of two one-sided tests."""
    spread: float | None
    """Standard deviation of the pairs' changes."""
    pairs: int


def ratios(a: Sequence[float], b: Sequence[float], allowance: float = 0.0, exact: bool = False) -> Change:
    """The change of positive values.

    ``allowance`` is a relative error that no trial shows, such as a model's: the truth may lie as far from what the
    pairs say. ``exact`` pairs repeat to the last bit, so the allowance is all there is of an interval.
    """
    logs = [log(y) - log(x) for x, y in zip(a, b, strict=True)]
    off = log1p(allowance)
    edges = (log(1.0 - MARGIN), log(1.0 + MARGIN))
    if exact:
        low, high = logs[0] - off, logs[0] + off
        interval = Interval(expm1(low), expm1(high)) if allowance else None
        return Change(expm1(logs[0]), interval, None, None, None, len(logs))
    # What a reading is rounded by is most beside the least value.
    step = log1p(_least_step((*a, *b)) / min(*a, *b))
    return _tested(logs, step, off, edges, expm1)


def differences(a: Sequence[float], b: Sequence[float]) -> Change:
    """The change of values among which are zeros, so that no ratio is defined; the margin is not, either."""
    size = max(map(abs, (*a, *b))) or 1.0
    step = _least_step([v / size for v in (*a, *b)])
    found = _tested([(y - x) / size for x, y in zip(a, b, strict=True)], step, 0.0, None, lambda m: m * size)
    return replace(found, spread=None if found.spread is None else found.spread * size)


def _tested(
    values: Sequence[float],
    step: float,
    off: float,
    edges: tuple[float, float] | None,
    shown: Callable[[float], float],
) -> Change:
    count = len(values)
    centre = fsum(values) / count
    if count < 2:
        return Change(shown(centre), None, None, None, None, count)
    degrees = count - 1
    cut = t_quantile(0.5 + CONFIDENCE / 2.0, degrees)
    # Readings that are rounded can agree by chance: a mean is known to no better than the least step seen.
    error = max(_standard_error(values, centre), step * (1.0 + ROUNDING) / cut)
    if error <= ROUNDING:
        return Change(shown(centre), None, None, None, None, count)

    def beyond(distance: float) -> float:
        """One-sided p of an estimate that lies so far on the right side of its bound."""
        return t_cdf(-distance / error, degrees)

    half = cut * error + off
    p_same = None
    if edges is not None:
        # An allowance as wide as the margin leaves no room for equality.
        room = (centre - edges[0] - off, edges[1] - off - centre)
        p_same = max(map(beyond, room)) if edges[0] + off < edges[1] - off else 1.0
    return Change(
        shown(centre),
        Interval(shown(centre - half), shown(centre + half)),
        min(1.0, 2.0 * beyond(abs(centre) - off)),
        p_same,
        error * sqrt(count),
        count,
    )


def _standard_error(values: Sequence[float], centre: float) -> float:
    """Of the mean of values in the order of their trials.

    Where configurations take turns forwards and backwards, neighbouring pairs share slow noise. What shows of it is
    counted, but never to narrow the interval (Newey and West, *Econometrica* 55:3, 1987, with one lag, less what taking
    out the mean does to it).
    """
    count = len(values)
    off = [v - centre for v in values]
    squares = fsum(x * x for x in off)
    shared = fsum(x * y for x, y in pairwise(off)) + squares / count
    return sqrt((squares + 2.0 * max(0.0, shared) * (count - 1) / count) / (count - 1) / count)


def _least_step(values: Sequence[float]) -> float:
    """Between any two different values; 0 where all are equal."""
    return min((y - x for x, y in pairwise(sorted(values)) if y - x > ROUNDING * abs(y)), default=0.0)

"""The pace of a counter that ticks evenly: one line through when its ticks must have been."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

SUREST_S: Final = 0.002
"""No tick is taken to be known better than to so much: pace and clocks are not perfect."""
ROUGH: Final = 0.01
"""Share by which a period that is roughly known may be off. A burst of reads on a busy host was off by 0.003."""
FINE: Final = 8
"""Frequencies tried, for each that the length of time tells apart."""
FIRST_S: Final = 300.0
"""Ticks within so much are brought into phase first, then those within ``FINE`` times as much, and so on: each time
all that was seen so far narrows what is tried."""
NEAREST: Final = 0.1
"""Of two periods at which ticks are in phase alike, the nearer one is taken: so much of the sum a far one must gain."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Tick ``n`` is at ``origin_s + n · period_s``, within ``reach_s`` from the first to the last one seen."""

    period_s: float
    origin_s: float
    reach_s: float
    first_s: float
    last_s: float

    def at_s(self, number: Any) -> Any:
        """When a tick is."""
        return self.origin_s + number * self.period_s

    def number(self, at_s: Any) -> Any:
        """Ticks until then, with a fraction."""
        return (at_s - self.origin_s) / self.period_s

    @property
    def off(self) -> float:
        """Share by which the period may be off: the line may turn by its reach at both ends."""
        return 2 * self.reach_s / max(self.last_s - self.first_s, self.period_s)

    def reach_at(self, at_s: Any) -> Any:
        """How far off a tick may be: beyond those seen, by what the period may be off as well."""
        beyond_s = np.maximum(0, np.maximum(self.first_s - at_s, at_s - self.last_s))
        return self.reach_s + self.off * beyond_s


def find_pace(low_s: Floats, high_s: Floats, period_s: float | None = None, off: float = ROUGH) -> Pace | None:
    """The pace of ticks that lie between ``low_s`` and ``high_s``, in order, two or more.

    ``period_s`` is the period but for the share ``off``, where most of the ticks in between were not seen. Where that
    is too rough to count those between two that were, the period is sought at which all are in phase. The line's offset
    is known to what all brackets have in common; where they have nothing in common, ticks jitter by at least what is
    missing. ``None`` if two ticks would be one.
    """
    middle, half = (low_s + high_s) / 2, (high_s - low_s) / 2
    period_s = float(np.median(np.diff(middle))) if period_s is None else in_phase(middle, period_s, off)
    number = np.concatenate([[0.0], np.cumsum(np.round(np.diff(middle) / period_s))])
    if (np.diff(number) < 1).any():
        return None
    slope, offset = np.polyfit(number, middle, 1, w=1 / np.maximum(half, 1e-6))
    fit = slope * number + offset
    from_s, to_s = float((low_s - fit).max()), float((high_s - fit).min())
    return Pace(
        period_s=float(slope),
        origin_s=float(offset) + (from_s + to_s) / 2,
        reach_s=SUREST_S + max((to_s - from_s) / 2, from_s - to_s),
        first_s=float(middle[0]),
        last_s=float(middle[-1]),
    )


def in_phase(at_s: Floats, period_s: float, off: float) -> float:
    """The period, at most the share ``off`` from ``period_s``, at which the phases of instants in order agree most.

    As it is where ticks are counted right with it: off by less than a quarter of a period over the longest gap.
    """
    if len(at_s) < 3 or np.diff(at_s).max() * off <= period_s / 4:
        return period_s
    since_s, within_s = at_s - at_s[0], FIRST_S
    while True:
        near_s = since_s[since_s <= within_s]
        if len(near_s) > 2:
            tried = max(2, round(2 * off * near_s[-1] * FINE / period_s))
            away = np.linspace(-off, off, 2 * tried + 1)
            turns = np.exp(2j * np.pi / period_s * np.outer(1 + away, near_s))
            agreed = np.abs(turns.mean(axis=1)) * (1 - NEAREST * (away / ROUGH) ** 2)
            period_s /= 1 + float(away[np.argmax(agreed)])
            off = min(off, period_s / (2 * near_s[-1]))
        if len(near_s) == len(since_s):
            return period_s
        within_s *= FINE

"""The pace of a counter that ticks evenly: one line through when its ticks must have been."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

SUREST_S: Final = 0.002
"""No tick is taken to be known better than to so much: pace and clocks are not perfect."""


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

    def reach_at(self, at_s: Any) -> Any:
        """How far off a tick may be: beyond those seen, the line may turn by its reach at both ends."""
        beyond_s = np.maximum(0, np.maximum(self.first_s - at_s, at_s - self.last_s))
        return self.reach_s * (1 + 2 * beyond_s / max(self.last_s - self.first_s, self.period_s))


def find_pace(low_s: Floats, high_s: Floats, period_s: float | None = None) -> Pace | None:
    """The pace of ticks that lie between ``low_s`` and ``high_s``, in order, two or more.

    ``period_s`` is roughly the period, where most of the ticks in between were not seen. The line's offset is known to
    what all brackets have in common; where they have nothing in common, ticks jitter by at least what is missing.
    ``None`` if two ticks would be one.
    """
    middle, half = (low_s + high_s) / 2, (high_s - low_s) / 2
    period_s = float(np.median(np.diff(middle))) if period_s is None else period_s
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

"""Where a value lies on an axis, and which values are marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

SPREAD = 4.0
"""Values that differ by more than this factor are laid out by their logarithms."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from ``low`` to ``high`` between two places of a picture."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (map(log10, (self.low, self.high, value))) if self.log else (self.low, self.high, value)
        return round(self.start + (self.end - self.start) * (value - low) / (high - low), 2)

    @property
    def ticks(self) -> tuple[float, ...]:
        """A few round values."""
        if not self.log:
            return _round_steps(self.low, self.high)
        exponents = range(floor(log10(self.low)) - 1, ceil(log10(self.high)) + 1)
        for leads in ((1, 2, 5), (1,)):
            found = tuple(
                lead * 10.0**e for e in exponents for lead in leads if self.low <= lead * 10.0**e <= self.high
            )
            if len(found) <= 7:
                break
        return found if len(found) > 1 else _round_steps(self.low, self.high)


def fitted(values: Sequence[float], start: float, end: float, room: float) -> Scale:
    """With room at both ends, by its share of the span; by logarithms where values differ much."""
    low, high = min(values), max(values)
    if low <= 0.0 or high <= SPREAD * low:
        spare = room * (high - low) or 0.1 * abs(high) or 1.0
        return Scale(low - spare, high + spare, start, end)
    spare = (high / low) ** room
    return Scale(low / spare, high * spare, start, end, log=True)


def from_zero(most: float, start: float, end: float) -> Scale:
    return Scale(0.0, most or 1.0, start, end)


def _round_steps(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    size = 10.0 ** floor(log10((high - low) / about))
    step = next(size * lead for lead in (1, 2, 5, 10) if (high - low) / (size * lead) <= about)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return tuple(round(i * step, 12) for i in range(first, last + 1))


def mark(value: float) -> str:
    """A tick's words."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def joule_scale(most: float | None) -> tuple[float, str]:
    """What to divide joules by for an axis that reaches this far, and the unit's name."""
    return (1e3, "kJ") if most is not None and most >= 2e3 else (1.0, "J")

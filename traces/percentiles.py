"""Percentiles, and which of them so many values can tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

PERCENTS: Final = (50, 95, 99)
"""Those that are told wherever any are."""


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The value below which ``percent`` of the values lie, interpolated linearly; ``None`` of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    at = (len(ordered) - 1) * percent / 100
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def needed(percent: int) -> int:
    """The fewest values of which one is expected to lie beyond this percentile: 2 for p50, 20 for p95, 100 for p99.

    Of fewer, it lies beside the largest, and says no more than that does.
    """
    return -(-100 // (100 - percent))


def unresolved(count: int) -> tuple[int, ...]:
    """Which of ``PERCENTS`` so many values cannot tell from their largest; none of no values, which have none."""
    return tuple(p for p in PERCENTS if 0 < count < needed(p))


def percentiles(values: Sequence[float]) -> dict[str, Any]:
    """``p50``, ``p95`` and ``p99``, the ``count`` of values, and under ``unresolved`` what they are too few for."""
    found: dict[str, Any] = {f"p{p}": percentile(values, p) for p in PERCENTS}
    return found | {"count": len(values), "unresolved": [f"p{p}" for p in unresolved(len(values))]}


def unresolved_note(figure: str, noun: str, count: int) -> str | None:
    """What a reader of these percentiles must know: ``workflow latency p99 is of 40 workflows, too few …``."""
    found = [f"p{p}" for p in unresolved(count)]
    if not found:
        return None
    verb = "is" if len(found) == 1 else "are"
    takes = ", ".join(f"p{p} takes {needed(p)}" for p in unresolved(count))
    nouns = noun if count == 1 else f"{noun}s"
    names = " and ".join(filter(None, (", ".join(found[:-1]), found[-1])))
    it = "it" if len(found) == 1 else "them"
    return f"{figure} {names} {verb} of {count} {nouns}, too few to tell {it} from the longest: {takes}"

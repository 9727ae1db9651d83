"""When workflows arrive, in words: ``burst``, ``recorded``, or ``poisson:RATE``."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rejoule.traces.errors import RejouleError


def poisson_rate(arrivals: str, others: Sequence[str]) -> float | None:
    """RATE of ``poisson:RATE``, in workflows a second; ``None`` for one of the ``others``, which have none.

    Raises RejouleError for anything else.
    """
    if arrivals in others:
        return None
    kind, _, text = arrivals.partition(":")
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if kind != "poisson" or not 0 < rate < float("inf"):
        raise RejouleError(
            f"arrivals {arrivals!r} are unknown",
            f"give {', '.join(others)}, or poisson:RATE with RATE in workflows a second, as in poisson:0.5",
        )
    return rate


def poisson_times(count: int, rate: float, seed: int | str) -> list[float]:
    """Seconds at which each of ``count`` workflows arrives, the first at 0."""
    source, now, times = random.Random(seed), 0.0, []
    for _ in range(count):
        times.append(now)
        now += source.expovariate(rate)
    return times

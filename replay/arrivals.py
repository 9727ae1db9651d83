"""When the workflows of a trace arrive: as recorded, all at once, or as a Poisson process."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rejoule.traces import RejouleError, Workflow


def check_arrivals(arrivals: str) -> None:
    """Raises RejouleError unless it is ``recorded``, ``burst`` or ``poisson:RATE``."""
    _rate(arrivals)


def arrival_times(workflows: Sequence[Workflow], arrivals: str, *, time_scale: float, seed: str) -> list[float]:
    """Seconds from the start of the run at which each workflow arrives, in their order."""
    rate = _rate(arrivals)
    if arrivals == "burst":
        return [0.0] * len(workflows)
    if rate is None:
        first = min((w.arrival_ns for w in workflows), default=0)
        return [(w.arrival_ns - first) / 1e9 * time_scale for w in workflows]
    source, now, times = random.Random(seed), 0.0, []
    for _ in workflows:
        times.append(now)
        now += source.expovariate(rate)
    return times


def _rate(arrivals: str) -> float | None:
    if arrivals in ("recorded", "burst"):
        return None
    kind, _, text = arrivals.partition(":")
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if kind != "poisson" or not 0 < rate < float("inf"):
        raise RejouleError(
            f"arrivals {arrivals!r} are unknown",
            "give recorded, burst, or poisson:RATE with RATE in workflows a second, as in poisson:0.5",
        )
    return rate

"""When the workflows of a trace arrive in a replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rejoule.traces import Workflow
from rejoule.traces.arrivals import poisson_rate, poisson_times

WITHOUT_RATE: Final = ("recorded", "burst")


def check_arrivals(arrivals: str) -> None:
    """Raises RejouleError unless it is ``recorded``, ``burst`` or ``poisson:RATE``."""
    poisson_rate(arrivals, WITHOUT_RATE)


def arrival_times(workflows: Sequence[Workflow], arrivals: str, *, time_scale: float, seed: str) -> list[float]:
    """Seconds from the start of the run at which each workflow arrives, in their order."""
    rate = poisson_rate(arrivals, WITHOUT_RATE)
    if rate is not None:
        return poisson_times(len(workflows), rate, seed)
    if arrivals == "burst":
        return [0.0] * len(workflows)
    first = min((w.arrival_ns for w in workflows), default=0)
    return [(w.arrival_ns - first) / 1e9 * time_scale for w in workflows]

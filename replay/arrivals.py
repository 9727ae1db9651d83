"""When the workflows of a trace arrive in a replay."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from rejoule.traces import RejouleError, Workflow
from rejoule.traces.arrivals import poisson_rate, poisson_times, users_of

WITHOUT_RATE: Final = ("recorded", "burst")
WHEN_FREE: Final = inf
"""Of a workflow that arrives when a user is free for it."""


def check_arrivals(arrivals: str) -> None:
    """Raises RejouleError unless it is ``recorded``, ``burst``, ``poisson:RATE`` or ``users:N[,THINK_S]``."""
    if users_of(arrivals) is None:
        try:
            poisson_rate(arrivals, WITHOUT_RATE)
        except RejouleError as error:
            raise RejouleError(error.what, f"{error.remedy}, or users:N[,THINK_S]") from None


def arrival_times(workflows: Sequence[Workflow], arrivals: str, *, time_scale: float, seed: str) -> list[float]:
    """Seconds from the start of the run at which each workflow arrives, in their order; some may be ``WHEN_FREE``."""
    if (users := users_of(arrivals)) is not None:
        return [0.0 if place < users.count else WHEN_FREE for place in range(len(workflows))]
    rate = poisson_rate(arrivals, WITHOUT_RATE)
    if rate is not None:
        return poisson_times(len(workflows), rate, seed)
    if arrivals == "burst":
        return [0.0] * len(workflows)
    first = min((w.arrival_ns for w in workflows), default=0)
    return [(w.arrival_ns - first) / 1e9 * time_scale for w in workflows]


def think_s(arrivals: str) -> float:
    """Seconds between a user's workflows; 0 where there are no users."""
    users = users_of(arrivals)
    return 0.0 if users is None else users.think_s

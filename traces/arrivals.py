"""When workflows arrive, in words: ``burst``, ``recorded``, ``poisson:RATE``, or ``users:N,THINK_S``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rejoule.traces.errors import RejouleError

USERS: Final = "users:"
MOST_USERS: Final = 1_000_000


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


@dataclass(frozen=True, slots=True)
class Users:
    """A closed loop: each user has at most one workflow under way."""

    count: int
    think_s: float
    """From the end of a user's workflow to the arrival of the next one."""


def users_of(arrivals: str) -> Users | None:
    """N and THINK_S of ``users:N`` and ``users:N,THINK_S``; ``None`` for other arrivals.

    Raises RejouleError for users that make no sense.
    """
    if not arrivals.startswith(USERS):
        return None
    count, comma, think = arrivals.removeprefix(USERS).partition(",")
    try:
        found = Users(int(count), float(think) if comma else 0.0)
    except ValueError:
        found = Users(0, 0.0)
    if not 0 < found.count <= MOST_USERS or not 0.0 <= found.think_s < float("inf"):
        raise RejouleError(
            f"arrivals {arrivals!r} are no number of users",
            "give users:N or users:N,THINK_S, as in users:16 or users:16,1.5: each thinks so many seconds between two "
            "workflows",
        )
    return found

"""What the clock tells of costs: how long each kind of work takes, from how long every step took.

Engine steps are timed one by one, joules are known for half a second at best. What takes time takes power, of which a
busy GPU draws between a third more and a third less than on average; so a cost that the sensors cannot tell from
another is taken to be what its time is worth, and its error what that leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from rejoule.analysis.attribution.nnls import Array, nnls

SPREAD: Final = 0.35
"""Of the power of different work, relative to the mean of a busy GPU. An H200 draws 440 to 516 W in a lone decode, 650
to 700 W in prompts, and about 250 W while it waits for its next launch (docs/h200.md)."""

HIDDEN: Final = 0.03
"""What work may cost that takes no time, because other work of its steps takes longer: of what it would cost if it took
all the energy of the steps that it is in."""


@dataclass(frozen=True)
class Timed:
    """Busy stretches: what was done in each (T × terms, idle time left out), and its length."""

    features: Array
    seconds: Array

    @cached_property
    def pace(self) -> Pace:
        """Of these stretches alone."""
        return _pace(self.features, self.seconds)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a unit of each kind of work."""

    seconds: Array
    covariance: Array
    misfit: float
    """‖fitted − measured‖ / ‖measured‖ over the stretches, both divided by the root of their length."""


def pace(timed: Sequence[Timed]) -> Pace:
    if len(timed) == 1:
        return timed[0].pace
    return _pace(np.vstack([t.features for t in timed]), np.concatenate([t.seconds for t in timed]))


def _pace(features: Array, seconds: Array) -> Pace:
    there = seconds > 1e-9
    root = np.sqrt(seconds[there])
    columns, target = features[there] / root[:, None], root
    found = nnls(columns, target)
    residual = target - columns @ found
    size = float(np.linalg.norm(target))
    misfit = float(np.linalg.norm(residual)) / size if size > 0.0 else 0.0
    # Work takes between no time and all of it, evenly: what no stretch tells apart keeps that.
    most = np.array([_most(seconds[there], features[there][:, j]) for j in range(features.shape[1])])
    scaled = columns * most
    least = 1e-12 * size**2 / max(1, len(target))
    variance = max(least, float(residual @ residual) / max(1, len(target) - len(found)))
    inverse = np.linalg.pinv(scaled.T @ scaled + 12.0 * variance * np.eye(len(found)))
    return Pace(found, variance * inverse * np.outer(most, most), misfit)


def _most(seconds: Array, column: Array) -> float:
    whole = float(column.sum())
    return float(seconds[column > 0.0].sum()) / whole if whole > 1e-9 else 0.0

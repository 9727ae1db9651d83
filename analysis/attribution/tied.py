"""Nodes that a run cannot tell apart: side by side throughout, their sum is known, their parts are not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from rejoule.analysis.attribution.nnls import Array
from rejoule.analysis.attribution.quantile import NORMAL

LOOSE: Final = 0.15
"""Half-width of a node's interval, relative, above which it is asked whether another node makes up for it."""

MAKES_UP: Final = 0.5
"""Standard deviation of the sum of two nodes' joules over that of each, below which each knows of the other's share."""


def tied(names: Sequence[str], joules: Array, covariance_j2: Array) -> tuple[tuple[str, ...], ...]:
    """Groups of names whose parts are not known, in the order of ``names``; those that stand alone are in none."""
    error = np.sqrt(np.clip(np.diag(covariance_j2), 0.0, None))
    group = list(range(len(names)))
    for i, j in combinations(range(len(names)), 2):
        loose = max(error[i] / max(joules[i], 1e-300), error[j] / max(joules[j], 1e-300)) * NORMAL > LOOSE
        together = np.sqrt(max(0.0, covariance_j2[i, i] + covariance_j2[j, j] + 2.0 * covariance_j2[i, j]))
        if loose and together < MAKES_UP * min(error[i], error[j]):
            old, new = group[j], group[i]
            group = [new if g == old else g for g in group]
    found = (tuple(name for name, g in zip(names, group, strict=True) if g == each) for each in dict.fromkeys(group))
    return tuple(names for names in found if len(names) > 1)

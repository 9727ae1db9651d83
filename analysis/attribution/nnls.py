"""Least squares with coefficients that cannot be negative."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]


def nnls(columns: Array, target: Array) -> Array:
    """The x ≥ 0 that minimises ‖columns · x − target‖₂, exactly, for a handful of columns.

    The optimum is the ordinary least-squares solution on its own support (the Karush–Kuhn–Tucker conditions; Lawson and
    Hanson, *Solving Least Squares Problems*, 1974, chapter 23), so trying every support finds it. Among equally good
    solutions the one with the fewest, then the earliest, columns wins.
    """
    count = columns.shape[1]
    size = np.linalg.norm(columns, axis=0)
    usable = [i for i in range(count) if size[i] > 0.0]
    best = np.zeros(count)
    if not usable or not np.any(target):
        return best
    q, r = np.linalg.qr(columns[:, usable] / size[usable])
    reduced = q.T @ target
    scale = float(np.linalg.norm(target))
    least = float(np.linalg.norm(reduced))
    everywhere = np.linalg.lstsq(r, reduced, rcond=None)
    if everywhere[2] == len(usable) and np.all(everywhere[0] >= 0.0):
        best[usable] = everywhere[0] / size[usable]
        return best
    for support in chain.from_iterable(combinations(range(len(usable)), n) for n in range(1, len(usable) + 1)):
        chosen = list(support)
        solution = np.linalg.lstsq(r[:, chosen], reduced, rcond=None)[0]
        if np.any(solution < 0.0):
            continue
        residual = float(np.linalg.norm(r[:, chosen] @ solution - reduced))
        if residual < least - 1e-12 * scale:
            least = residual
            best = np.zeros(count)
            best[[usable[i] for i in chosen]] = solution / size[[usable[i] for i in chosen]]
    return best

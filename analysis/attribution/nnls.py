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
    Hanson, *Solving Least Squares Problems*, 1974, chapter 23). Columns that are told apart have one, which their
    active-set method finds; among the equally good ones of others, the one with the fewest, then the earliest, wins.
    """
    count = columns.shape[1]
    size = np.linalg.norm(columns, axis=0)
    usable = [i for i in range(count) if size[i] > 0.0]
    best = np.zeros(count)
    if not usable or not np.any(target):
        return best
    q, r = np.linalg.qr(columns[:, usable] / size[usable])
    reduced = q.T @ target
    found, _, rank, _ = np.linalg.lstsq(r, reduced, rcond=None)
    if rank < len(usable) or np.any(found < 0.0):
        found = _active(r, reduced) if rank == len(usable) else None
        found = _best_support(r, reduced, float(np.linalg.norm(target))) if found is None else found
    best[usable] = found / size[usable]
    return best


def _active(columns: Array, target: Array) -> Array | None:
    """By active sets; ``None`` where rounding keeps it from settling."""
    count = columns.shape[1]
    found, inside = np.zeros(count), np.zeros(count, dtype=bool)
    least = 1e-12 * float(np.linalg.norm(target))
    for _ in range(3 * count):
        uphill = np.where(inside, -np.inf, columns.T @ (target - columns @ found))
        if uphill.max() <= least:
            return found
        inside[int(uphill.argmax())] = True
        wanted = _on(columns, target, inside)
        while np.any(wanted[inside] <= 0.0):
            falls = inside & (wanted <= 0.0)
            reach = found[falls] / (found[falls] - wanted[falls])
            found = found + float(reach.min()) * (wanted - found)
            inside &= ~(falls & (found <= least))
            inside[np.flatnonzero(falls)[int(reach.argmin())]] = False
            found = np.where(inside, found, 0.0)
            wanted = _on(columns, target, inside)
        found = wanted
    return None


def _on(columns: Array, target: Array, inside: NDArray[np.bool_]) -> Array:
    solution = np.zeros(columns.shape[1])
    solution[inside] = np.linalg.lstsq(columns[:, inside], target, rcond=None)[0]
    return solution


def _best_support(columns: Array, target: Array, scale: float) -> Array:
    """By trying every support."""
    count = columns.shape[1]
    best, least = np.zeros(count), float(np.linalg.norm(target))
    for support in chain.from_iterable(combinations(range(count), n) for n in range(1, count + 1)):
        chosen = list(support)
        solution = np.linalg.lstsq(columns[:, chosen], target, rcond=None)[0]
        if np.any(solution < 0.0):
            continue
        residual = float(np.linalg.norm(columns[:, chosen] @ solution - target))
        if residual < least - 1e-12 * scale:
            least = residual
            best = np.zeros(count)
            best[chosen] = solution
    return best

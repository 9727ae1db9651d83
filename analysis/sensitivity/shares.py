"""How much of a figure's variation over a matrix each knob stands for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from math import factorial, fsum
from typing import Final

MOST_KNOBS: Final = 12
"""Beyond, there are too many sets of them."""


def shares(levels: Sequence[Sequence[str]], logs: Sequence[float]) -> tuple[float, ...] | None:
    """Shapley shares of the variance: for each knob, what knowing its level explains, averaged over all orders in which
    knobs may become known; they add up to 1. ``None`` without variation, or with more than ``MOST_KNOBS``.

    Owen, *SIAM/ASA Journal on Uncertainty Quantification* 2:1, 2014, on cells that count alike. They are to be all
    combinations: where some are missing, knobs changed together, and what one did would be charged to the others too.
    """
    count = len(levels[0]) if levels else 0
    total = _explained(levels, logs, range(count)) if 0 < count <= MOST_KNOBS else 0.0
    if total <= _LEAST:
        return None
    of = {
        chosen: _explained(levels, logs, chosen) / total
        for size in range(count + 1)
        for chosen in combinations(range(count), size)
    }

    def share(knob: int) -> float:
        gains = (
            factorial(len(without)) * factorial(count - len(without) - 1) * (of[_with(without, knob)] - of[without])
            for without in of
            if knob not in without
        )
        return fsum(gains) / factorial(count)

    return tuple(map(share, range(count)))


def _with(chosen: tuple[int, ...], knob: int) -> tuple[int, ...]:
    return tuple(sorted((*chosen, knob)))


def _explained(levels: Sequence[Sequence[str]], logs: Sequence[float], knobs: Iterable[int]) -> float:
    """The variance of the means over cells that are alike in these knobs."""
    kept = tuple(knobs)
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for cell, value in zip(levels, logs, strict=True):
        groups[tuple(cell[k] for k in kept)].append(value)
    centre = fsum(logs) / len(logs)
    return fsum(len(g) * (fsum(g) / len(g) - centre) ** 2 for g in groups.values()) / len(logs)


_LEAST: Final = 1e-18

"""What each factor of a product did to its change.

A difference of two products is divided by the Shapley value over their factors (Albrecht, François and Schoors, *A
Shapley decomposition of carbon emissions without residuals*, Energy Policy 30, 2002; for two factors the rule of Sun,
Energy Economics 20, 1998): each factor has the mean, over all orders, of what changing it changes. It leaves nothing,
knows no order, and turns its sign with the sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from math import factorial, prod


def parts(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """Of each factor: they add up to ``prod(b) − prod(a)``."""
    count = len(a)
    found = []
    for i in range(count):
        others = [j for j in range(count) if j != i]
        mean = sum(
            weight * prod(b[j] if j in changed else a[j] for j in others) for changed, weight in _orders(count, i)
        )
        found.append((b[i] - a[i]) * mean)
    return found


@cache
def _orders(count: int, player: int) -> tuple[tuple[frozenset[int], float], ...]:
    """Which others come before it, and how often, of all orders."""
    others = [j for j in range(count) if j != player]
    return tuple(
        (frozenset(before), factorial(size) * factorial(count - 1 - size) / factorial(count))
        for size in range(count)
        for before in combinations(others, size)
    )

"""The t distribution's two-sided 95 % quantile, without a statistics package."""

from __future__ import annotations

from math import isinf
from typing import Final

NORMAL: Final = 1.959964
"""Half-width of a normal distribution's 95 % interval in standard deviations."""


def t95(freedom: float) -> float:
    """By the expansion of Cornish and Fisher (Abramowitz and Stegun, 26.7.5); within 1 % above two degrees."""
    if isinf(freedom):
        return NORMAL
    z, n = NORMAL, max(2.0, freedom)
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
        (79.0 * z**9 + 776.0 * z**7 + 1482.0 * z**5 - 1920.0 * z**3 - 945.0 * z) / 92160.0,
    )
    return z + sum(term / n ** (i + 1) for i, term in enumerate(terms))

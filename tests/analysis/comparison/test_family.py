from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.analysis.comparison.family import adjusted

P = st.floats(0.0, 1.0)


@settings(deadline=None)
@given(st.lists(st.tuples(P, P, st.floats(0.5, 20.0)), max_size=12))
def test_correction_only_raises_and_keeps_the_order(rows: list[tuple[float, float, float]]) -> None:
    """Adjusted values are never smaller, never above 1, and of equal weights ordered as before."""
    weights = [w for _, _, w in rows]
    claims = [[p, q] for p, q, _ in rows]
    found = adjusted(claims, weights)
    pairs = _flat(claims, found)
    assert all(p <= q + 1e-12 and q <= 1.0 for p, q in pairs)
    even = adjusted(claims, [1.0] * len(claims))
    ordered = sorted(_flat(claims, even))
    assert [q for _, q in ordered] == sorted(q for _, q in ordered)


def test_holm_as_published() -> None:
    """Three rows of one claim: the smallest counts threefold, the next twofold, the last once."""
    assert [p for (p,) in adjusted([[0.01], [0.04], [0.03]], [1.0] * 3)] == pytest.approx([0.03, 0.06, 0.06])


def test_a_row_counts_once_though_it_makes_two_claims() -> None:
    """Two rows with two claims each are two tests at first, not four, since a row cannot be wrong in both."""
    assert adjusted([[0.01, 0.5], [0.6, 0.7]], [1.0, 1.0])[0][0] == pytest.approx(0.02)


def test_half_is_kept_for_a_row_that_weighs_as_much_as_all_others() -> None:
    """The first row is corrected twofold however many others there are."""
    assert adjusted([[0.02], *[[0.9]] * 10], [10.0, *[1.0] * 10])[0][0] == pytest.approx(0.04)


def test_wrong_claims_are_made_in_at_most_one_table_of_twenty() -> None:
    """Of 4,000 tables whose rows are true in one claim or the other, at most 5 % claim anything that is not so."""
    source = np.random.default_rng(3)
    wrong = 0
    for _ in range(4000):
        # In each row the first claim may be wrong; the second is right, and found more often than not.
        claims = [[p, q] for p, q in zip(source.uniform(size=8), source.beta(0.2, 2.0, size=8), strict=True)]
        wrong += any(row[0] < 0.05 for row in adjusted(claims, [7.0, *[1.0] * 7]))
    assert wrong <= 0.05 * 4000 + 3 * (0.05 * 0.95 * 4000) ** 0.5


def _flat(before: list[list[float]], after: list[list[float]]) -> list[tuple[float, float]]:
    return [pair for b, a in zip(before, after, strict=True) for pair in zip(b, a, strict=True)]

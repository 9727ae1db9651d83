from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.analysis.causes.shapley import parts

FACTORS = st.lists(st.tuples(*[st.just(0.0) | st.floats(1e-4, 1e4)] * 2), min_size=1, max_size=5)


def largest(factors: list[tuple[float, float]]) -> float:
    return prod(max(x, y) for x, y in factors)


@given(FACTORS)
def test_parts_add_up_to_the_change_of_the_product(factors: list[tuple[float, float]]) -> None:
    a, b = zip(*factors, strict=True)
    assert sum(parts(a, b)) == pytest.approx(prod(b) - prod(a), rel=1e-9, abs=1e-9 * largest(factors))


@given(FACTORS)
def test_parts_turn_their_sign_with_the_sides(factors: list[tuple[float, float]]) -> None:
    a, b = zip(*factors, strict=True)
    there, back = parts(a, b), parts(b, a)
    assert back == pytest.approx([-part for part in there], rel=1e-9, abs=1e-9 * largest(factors))


def test_factors_that_are_equal_have_no_part() -> None:
    assert parts([2.0, 3.0, 5.0], [2.0, 4.0, 5.0]) == pytest.approx([0.0, 10.0, 0.0])


def test_two_factors_share_what_they_do_together_evenly() -> None:
    assert parts([1.0, 1.0], [2.0, 3.0]) == pytest.approx([2.0, 3.0])

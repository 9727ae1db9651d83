from __future__ import annotations

from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.analysis.comparison.change import MARGIN, differences, ratios

# Values that differ by less than a billionth are equal, and have no spread.
VALUES = st.lists(st.integers(10**3, 10**8).map(lambda n: n / 10**4), min_size=2, max_size=12, unique=True)
NEAR = st.lists(st.integers(800_000, 1_200_000).map(lambda n: n / 10**6), min_size=2, max_size=12, unique=True)


@settings(deadline=None)
@given(NEAR)
def test_swapping_the_sides_inverts_everything(values: list[float]) -> None:
    """Swapped sides give the inverse change and interval, and the same p."""
    other = values[::-1]
    found, swapped = ratios(values, other), ratios(other, values)
    assert (1 + found.value) * (1 + swapped.value) == pytest.approx(1.0)
    assert found.p == pytest.approx(swapped.p)
    assert found.interval is not None and swapped.interval is not None
    assert (1 + found.interval.low) * (1 + swapped.interval.high) == pytest.approx(1.0, rel=1e-3)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_p_and_interval_are_one_test(a: list[float], b: list[float]) -> None:
    """p is below 5 % exactly where the interval leaves out no change."""
    count = min(len(a), len(b))
    found = ratios(a[:count], b[:count])
    if found.interval is not None and found.p is not None and abs(found.p - 0.05) > 1e-6:
        assert (found.p < 0.05) is not (found.interval.low <= 0.0 <= found.interval.high)


def test_the_interval_is_that_of_students_t() -> None:
    """Log ratios of 1, 2, 4, 3 %: mean ± 3.1824 · s / √4, and p of their t by table."""
    changes = [0.01, 0.03, 0.02, 0.04]
    found = ratios(
        [10.0, 11.0, 12.0, 13.0], [x * 2.718281828459045**c for x, c in zip((10, 11, 12, 13), changes, strict=True)]
    )
    half = 3.182446 * (0.0005 / 3) ** 0.5 / 2
    assert found.interval is not None
    assert log(1 + found.interval.low) == pytest.approx(0.025 - half, rel=1e-5)
    assert log(1 + found.interval.high) == pytest.approx(0.025 + half, rel=1e-5)
    assert found.p == pytest.approx(0.0305, abs=1e-4)


@pytest.mark.parametrize("change", [-MARGIN, MARGIN])
def test_a_change_at_the_margin_is_never_nearly_the_same(change: float) -> None:
    """Where the estimate lies on the margin, p of "the same" is one half, however little noise there is."""
    found = ratios([100.0, 100.1, 100.2], [100.1 * (1 + change), 100.0 * (1 + change), 100.2 * (1 + change)])
    assert found.p_same == pytest.approx(0.5, abs=0.01)


def test_one_pair_and_equal_pairs_say_nothing_of_spread() -> None:
    """A single pair has no interval, nor have pairs without any difference."""
    for found in (ratios([2.0], [1.0]), ratios([2.0, 2.0], [2.0, 2.0])):
        assert (found.interval, found.p, found.p_same, found.spread) == (None, None, None, None)


def test_rounded_readings_are_known_to_their_step_at_best() -> None:
    """Pairs that agree because they are rounded get an interval of the least step seen, not of nothing."""
    found = ratios([100.0, 100.0, 100.0], [101.0, 101.0, 101.0])
    assert found.interval is not None and found.interval.low <= 0.0
    assert found.interval.high == pytest.approx(0.0201, abs=1e-4)


@settings(deadline=None)
@given(VALUES, st.floats(0.001, 0.5))
def test_an_allowance_widens_and_never_claims(values: list[float], allowance: float) -> None:
    """With what trials do not show, the interval is as much wider at both ends, and no p is smaller."""
    other = values[::-1]
    plain, wide = ratios(values, other), ratios(values, other, allowance)
    assert plain.interval is not None and wide.interval is not None
    assert (1 + wide.interval.high) == pytest.approx((1 + plain.interval.high) * (1 + allowance))
    assert (1 + wide.interval.low) * (1 + allowance) == pytest.approx(1 + plain.interval.low)
    assert wide.p is not None and plain.p is not None and wide.p >= plain.p
    assert wide.p_same is not None and plain.p_same is not None and wide.p_same >= plain.p_same - 1e-12


def test_an_exact_difference_has_the_allowance_alone() -> None:
    """What repeats to the last bit has no p, and an interval only where an error is known."""
    assert ratios([2.0, 2.0], [1.0, 1.0], exact=True).interval is None
    found = ratios([2.0], [1.0], 0.05, exact=True)
    assert found.interval is not None and found.p is None
    assert found.interval.low == pytest.approx(0.5 / 1.05 - 1.0) and found.interval.high == pytest.approx(-0.475)


def test_zeros_are_compared_by_their_differences() -> None:
    """Where a ratio is not defined, the interval is in the unit itself and nothing is called the same."""
    found = differences([0.0, 0.0, 0.1], [5.0, 5.2, 5.1])
    assert found.value == pytest.approx(5.0667, abs=1e-3)
    assert found.interval is not None and 4.0 < found.interval.low < 5.07 < found.interval.high < 6.2
    assert found.p is not None and found.p < 0.01 and found.p_same is None

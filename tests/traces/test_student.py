from __future__ import annotations

from math import log1p
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.traces.student import CHANCE, MOST_PAIRS, detectable, normal_cdf, pairs_needed, power, t_cdf, t_quantile


@pytest.mark.parametrize(
    ("degrees", "printed"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (120, 1.9799)],
)
def test_t_quantiles_are_the_printed_ones(degrees: int, printed: float) -> None:
    """The 97.5 % points agree with the tables in Abramowitz and Stegun."""
    assert t_quantile(0.975, degrees) == pytest.approx(printed, abs=1e-4)
    assert t_quantile(0.025, degrees) == pytest.approx(-printed, abs=1e-4)


@settings(deadline=None)
@given(st.floats(-30.0, 30.0), st.integers(1, 40))
def test_t_is_symmetric_and_nears_the_normal(t: float, degrees: int) -> None:
    """P(T < t) + P(T < −t) = 1, and with many degrees of freedom T is normal."""
    assert t_cdf(t, degrees) + t_cdf(-t, degrees) == pytest.approx(1.0)
    assert t_cdf(t, 2000) == pytest.approx(NormalDist().cdf(t), abs=1e-3)
    assert normal_cdf(t) == pytest.approx(NormalDist().cdf(t), abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 4, 9, 40])
def test_power_is_what_tests_find(degrees: int) -> None:
    """The share of drawn t-tests that find an effect is the power; without one it is the level."""
    assert power(0.0, degrees, 0.05) == pytest.approx(0.05, abs=1e-5)
    source, effect = np.random.default_rng(degrees), 2.0 + 6.0 / degrees
    spread = np.sqrt(source.chisquare(degrees, 200_000) / degrees)
    found = np.abs(source.normal(effect, 1.0, 200_000) / spread) > t_quantile(0.975, degrees)
    assert power(effect, degrees, 0.05) == pytest.approx(found.mean(), abs=0.005)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 30), st.floats(0.001, 0.2))
def test_what_trials_find_is_what_it_takes(pairs: int, spread: float) -> None:
    """So many pairs are needed for the least difference that they find, and one less does not do."""
    least = detectable(spread, pairs, 0.025)
    assert power(log1p(least) / spread * pairs**0.5, pairs - 1, 0.025) == pytest.approx(CHANCE, abs=1e-5)
    assert pairs_needed(least * 1.001, spread, 0.025) == pairs
    assert pairs_needed(spread / 1000.0, spread, 0.025) is None and MOST_PAIRS == 1000
    assert pairs_needed(0.01, 0.0, 0.025) == 2

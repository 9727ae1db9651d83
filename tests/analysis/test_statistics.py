from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.analysis.statistics import holm, mean, normal_cdf, paired_ratio, percentile, t_cdf, t_quantile

VALUES = st.lists(st.floats(0.1, 1e6), min_size=2, max_size=12)


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


def test_mean_has_a_t_interval() -> None:
    """The interval is the mean ± t · s/√n; one value has none."""
    found = mean([1.0, 2.0, 3.0])
    assert found.value == pytest.approx(2.0)
    assert found.interval is not None
    assert found.interval.high - 2.0 == pytest.approx(4.30265 / 3**0.5, rel=1e-5)
    assert mean([5.0]).interval is None


@settings(deadline=None)
@given(VALUES, st.floats(0.01, 100.0))
def test_a_common_factor_is_found_exactly(values: list[float], factor: float) -> None:
    """Where every pair changed alike, the interval is that change alone."""
    found = paired_ratio(values, [factor * v for v in values])
    assert found.interval is not None
    assert found.change == pytest.approx(factor - 1.0, abs=1e-9)
    assert found.interval.low == pytest.approx(factor - 1.0, abs=1e-9)
    assert found.interval.high == pytest.approx(factor - 1.0, abs=1e-9)


@settings(deadline=None)
@given(VALUES, st.integers(0, 2**32))
def test_the_bootstrap_is_seeded_and_symmetric(values: list[float], seed: int) -> None:
    """The same seed gives the same interval, it holds the estimate, and swapping the sides inverts it."""
    other = values[::-1]
    found, again, swapped = (paired_ratio(a, b, seed) for a, b in ((values, other), (values, other), (other, values)))
    assert found == again
    assert found.interval is not None and swapped.interval is not None
    assert found.interval.low - 1e-9 <= found.change <= found.interval.high + 1e-9 * abs(found.change)
    assert (1 + found.change) * (1 + swapped.change) == pytest.approx(1.0)


@pytest.mark.parametrize("pairs", [3, 5, 10])
def test_equal_sides_are_rarely_called_different(pairs: int) -> None:
    """With noise alone, p falls below 5 %, and ten pairs' interval misses no change, about one time in twenty."""
    random = np.random.default_rng(pairs)
    noise = np.exp(random.normal(0.0, 0.05, size=(400, 2, pairs)))
    found = [paired_ratio(a, b, seed=1, resamples=500) for a, b in noise]
    assert sum(f.p is not None and f.p < 0.05 for f in found) <= 0.08 * len(found)
    if pairs >= 10:
        missed = sum(f.interval is not None and not f.interval.low <= 0.0 <= f.interval.high for f in found)
        assert missed <= 0.10 * len(found)


def test_one_pair_has_no_interval() -> None:
    """A single pair shows a change and nothing of its spread."""
    found = paired_ratio([2.0], [1.0])
    assert found.change == pytest.approx(-0.5)
    assert (found.interval, found.p, found.pairs) == (None, None, 1)


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0), max_size=12))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    """Adjusted values are never smaller, never above 1, and ordered as before."""
    adjusted = holm(p_values)
    assert all(p <= q <= 1.0 for p, q in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_holm_as_published() -> None:
    """Three tests: the smallest counts threefold, the next twofold, the last once."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_percentile_of_nothing() -> None:
    """Nothing has no percentile, rather than zero."""
    assert percentile([], 0.5) is None
    assert percentile([1.0, 2.0], 0.5) == 1.5

"""Periods of counters, from ticks most of which nobody saw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.energy.pace import find_pace


@given(
    st.lists(st.integers(1, 200), min_size=20, max_size=80),
    st.sampled_from([0.02, 0.1]),
    st.floats(-0.004, 0.004),
    st.integers(0, 2**32 - 1),
)
def test_rough_period(gaps: list[int], period_s: float, off: float, seed: int) -> None:
    """However many ticks lie unseen between two, each is counted, also where the period is roughly known only."""
    rng = np.random.default_rng(seed)
    at_s = period_s * np.cumsum([0, *range(1, 13), *gaps]) + 5.0
    low_s = at_s - rng.uniform(0, 0.04 * period_s, len(at_s))
    pace = find_pace(low_s, low_s + 0.04 * period_s, period_s * (1 + off))
    assert pace is not None
    assert pace.period_s == pytest.approx(period_s, rel=1e-4)
    assert abs(pace.number(at_s) - np.round(pace.number(at_s))).max() < 0.1

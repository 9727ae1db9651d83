"""Periods of counters, from ticks most of which nobody saw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.energy.pace import find_pace, in_phase


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


def test_dense_then_rare() -> None:
    """Many ticks near each other do not pass for knowing the period: rare ones behind them are counted, too."""
    rng = np.random.default_rng(1)
    gaps = [2] * 1550 + [int(gap) for gap in rng.integers(300, 500, 10)]
    at_s = 0.1 * np.cumsum([0, *gaps]) + rng.normal(0, 0.001, len(gaps) + 1)
    pace = find_pace(at_s - 0.004, at_s + 0.004, 0.1 * 1.005)
    assert pace is not None and (np.round(pace.number(at_s)) == np.cumsum([0, *gaps])).all()


def test_known_period() -> None:
    """A period that is known well enough to count ticks is no longer sought: a far one cannot take its place."""
    at_s = np.linspace(0.0, 63 * 16.0, 64)
    assert in_phase(at_s, 0.1 * 1.005, 0.01) != 0.1 * 1.005
    assert in_phase(at_s, 0.1 * 1.005, 0.001) == 0.1 * 1.005


def test_how_well_a_period_is_known() -> None:
    """What a period may be off by is what the line may turn, and shrinks as ticks are seen for longer."""
    seen = (np.linspace(0.0, 2.4, 25), np.linspace(0.0, 249.9, 2500))
    short, long = (find_pace(at_s - 0.004, at_s + 0.004) for at_s in seen)
    assert short is not None and long is not None
    assert short.off == pytest.approx(2 * short.reach_s / 2.4) and long.off < short.off / 50
    assert short.reach_at(3.4) == pytest.approx(short.reach_s * (1 + 2 * 1.0 / 2.4))

"""When a dear counter is read, on a clock of the test's own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rejoule.replay.energy.counter_reads import CounterReads
from rejoule.replay.energy.pace import find_pace

COST_S = 0.0036
PERIOD_S = 0.1
PHASE_S = 0.033


def reads_of(length_s: float, windows_s: float) -> tuple[CounterReads, list[float]]:
    """Where reads began, of which each end of windows that follow one another was told."""
    reads, begun_s, now_s, edge_s = CounterReads(COST_S, 0.0), [], 0.0, 10.0
    late_s = np.random.default_rng(0)
    while now_s < length_s:
        if edge_s <= reads.due_s:
            reads.focus(edge_s)
            edge_s += windows_s
            continue
        begun_s.append(max(reads.due_s, now_s) + late_s.exponential(2e-4))
        now_s = begun_s[-1] + COST_S
        reads.told(begun_s[-1], now_s, 40_000 * _ticks(begun_s[-1]) + 1)
    return reads, begun_s


def _ticks(begun_s: float) -> int:
    """How many a read that begins then has seen."""
    return int((begun_s + COST_S / 2 - PHASE_S) // PERIOD_S)


def test_cost() -> None:
    """Left alone, it takes less than a quarter of a percent of one core, and keeps the pace."""
    reads, begun_s = reads_of(300.0, 1e9)
    assert sum(at_s > 20 for at_s in begun_s) * COST_S < 0.0025 * 280
    assert reads.pace is not None and reads.pace.period_s == pytest.approx(PERIOD_S, rel=1e-5)


@pytest.mark.parametrize("windows_s", [1.0, 2.0, 3.0, 7.0])
def test_many_windows(windows_s: float) -> None:
    """However short the windows that follow one another, sweeps across ticks are never more than 20 s apart."""
    _, begun_s = reads_of(200.0, windows_s)
    swept_s = [b for a, b in pairwise(begun_s) if b - a < 2 * COST_S and b > 5]
    assert max(np.diff([5.0, *swept_s, 200.0])) < 20


@pytest.mark.parametrize("off", [-0.008, 0.008])
def test_sweeps_tell_one_period(off: float) -> None:
    """Ticks seen long after the burst are in phase at the true period alone, however roughly it is known."""
    _, begun_s = reads_of(300.0, 1e9)
    ticked = [(a, b + COST_S) for a, b in pairwise(begun_s) if a > 50 and _ticks(a) < _ticks(b) and b - a < 2 * COST_S]
    low_s, high_s = np.array(ticked).T
    pace = find_pace(low_s, high_s, PERIOD_S * (1 + off))
    assert pace is not None and pace.period_s == pytest.approx(PERIOD_S, rel=1e-4)

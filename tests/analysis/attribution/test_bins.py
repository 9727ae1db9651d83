"""Readings as bins of energy, and the stretches that lie in them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rejoule.analysis.attribution.bins import merged, of_readings, of_stretches
from rejoule.analysis.attribution.ledger import Ledger, ledger
from rejoule.analysis.attribution.slices import Slice, Work
from rejoule.traces.run import Reading


def every(length_s: float, *joules: float) -> list[Reading]:
    return [Reading(i * length_s, (i + 1) * length_s, joules_each) for i, joules_each in enumerate(joules)]


def stretches(*edges_s: float) -> Ledger:
    return ledger([Slice(a, b, 1, None) for a, b in pairwise(edges_s)], [])


def test_a_rest_that_is_too_short_joins_the_last_bin() -> None:
    """Readings of 0.2 s become bins of at least 0.5 s, whose joules are theirs."""
    edges_s, joules = merged(every(0.2, *range(1, 9)), 0.5)
    assert edges_s == pytest.approx([0.0, 0.6, 1.6])
    assert joules == pytest.approx([1 + 2 + 3, 4 + 5 + 6 + 7 + 8])


def test_every_stretch_lies_whole_in_the_bins() -> None:
    """Also one across edges, one without length, and one that reaches beyond the readings."""
    book = stretches(0.0, 0.4, 1.2, 1.2, 2.5, 3.0)
    bins = of_readings(book, every(0.5, 1.0, 1.0, 1.0, 1.0))
    assert bins.means(np.ones(4), 5) == pytest.approx(1.0)
    assert bins.sums(np.array([0.4, 0.8, 0.0, 0.8, 0.0])) == pytest.approx([0.5, 0.5, 0.5, 0.5])


@pytest.mark.parametrize("lag_s", [0.02, 0.2])
def test_a_late_counter_told_of_the_time_before_the_run_first(lag_s: float) -> None:
    """What was drawn before it is taken off, and of its last moment what is left over is known."""
    bins = of_readings(stretches(0.0, 5.0), every(0.5, *[50.0] * 10), lag_s=lag_s, before_w=60.0)
    assert bins.duration_s == pytest.approx([0.5 - lag_s, *[0.5] * 9, lag_s])
    assert bins.energy_j == pytest.approx([50.0 - 60.0 * lag_s, *[50.0] * 9, 60.0 * lag_s])
    assert bins.told.tolist() == [True] * 10 + [False]


def test_idle_time_with_joules_of_its_own_keeps_them() -> None:
    """Steps of the same quarter of a second are one bin, and what lies idle between them another."""
    busy = {"a": Work(1.0)}
    book = ledger([Slice(0.0, 0.1, 1, None, busy), Slice(0.1, 0.2, 0, None), Slice(0.2, 0.24, 1, None, busy)], ["a"])
    bins = of_stretches(book, np.array([10.0, 1.0, 5.0]))
    assert bins.energy_j[bins.bin] == pytest.approx([15.0, 1.0, 15.0])
    assert bins.duration_s[bins.bin] == pytest.approx([0.14, 0.1, 0.14])

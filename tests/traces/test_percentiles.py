"""Percentiles, and which of them so many values can tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.traces.percentiles import PERCENTS, needed, percentile, percentiles, unresolved, unresolved_note

VALUES = st.lists(st.floats(0, 1e6), min_size=2, max_size=150)


@given(VALUES)
def test_what_is_not_resolved_lies_beside_the_largest(values: list[float]) -> None:
    """A percentile of too few values lies between the two largest of them."""
    for percent in unresolved(len(values)):
        found = percentile(values, percent)
        assert found is not None and sorted(values)[-2] <= found <= max(values)


def test_the_law_by_hand() -> None:
    """One value in 2, 20 and 100 lies beyond p50, p95 and p99; nothing is said of no values."""
    assert [needed(p) for p in PERCENTS] == [2, 20, 100]
    assert [unresolved(n) for n in (0, 1, 2, 19, 20, 99, 100)] == [
        (), (50, 95, 99), (95, 99), (95, 99), (99,), (99,), (),
    ]  # fmt: skip
    assert percentiles([1.0, 3.0]) == {
        "p50": 2.0, "p95": pytest.approx(2.9), "p99": pytest.approx(2.98), "count": 2, "unresolved": ["p95", "p99"],
    }  # fmt: skip
    assert percentiles([])["p99"] is None and percentiles([])["unresolved"] == []


def test_the_note_says_what_it_takes() -> None:
    """Which percentiles, of how many, and how many it takes."""
    assert unresolved_note("latency", "workflow", 40) == (
        "latency p99 is of 40 workflows, too few to tell it from the longest: p99 takes 100"
    )
    assert "p50, p95 and p99 are of 1 workflow," in (unresolved_note("latency", "workflow", 1) or "")
    assert unresolved_note("latency", "workflow", 100) is None


def test_percentile_of_nothing() -> None:
    """Nothing has no percentile, rather than zero."""
    assert percentile([], 50) is None
    assert percentile([1.0, 2.0], 50) == 1.5

from __future__ import annotations

import pytest
from benchmarks.diffs import KINDS, count

from rejoule.analysis.comparison.change import MARGIN

DIFFS = 150


@pytest.mark.parametrize("trials", [2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_and_wrong_verdicts_are_rare(kind: str, trials: int) -> None:
    """Whatever the noise, 95 % of intervals hold, and at most 5 % of tables have a wrong verdict, within sampling."""
    equal, edge = (count(KINDS[kind], trials, change, DIFFS, seed=1) for change in (0.0, MARGIN))
    slack = 3 * (0.05 * 0.95 / DIFFS) ** 0.5
    assert equal.held >= 0.95 - slack and edge.held >= 0.95 - slack
    assert equal.wrong <= 0.05 + slack and edge.wrong <= 0.05 + slack

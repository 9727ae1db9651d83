from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest

from rejoule.traces.runs import load_runs
from rejoule.traces.student import detectable
from rejoule.traces.trials import H200_SPREAD, LEAD_LEVEL, paired_spread, trial_spread

KEPT = Path(__file__).parents[2] / "benchmarks" / "h200"


def test_the_default_spread_is_that_of_the_kept_runs() -> None:
    """What is assumed before any trial is made is what the kept trials of two H200s show."""
    found = [trial_spread(load_runs(KEPT / name).runs) for name in ("workloads", "workloads-watched")]
    known = [each for each in found if each is not None]
    assert [degrees for _, degrees in known] == [32, 24]
    pooled = sqrt(sum(spread**2 * degrees for spread, degrees in known) / sum(degrees for _, degrees in known))
    assert pytest.approx(pooled, abs=5e-5) == H200_SPREAD


def test_the_advice_of_five_trials_is_what_they_find() -> None:
    """Five trials find 4 % more joules where trials differ as on an H200; three find 9 %, two nothing below 50 %."""
    least = [detectable(paired_spread(H200_SPREAD), trials, LEAD_LEVEL) for trials in (2, 3, 5)]
    assert least == pytest.approx([0.534, 0.089, 0.039], abs=0.001)

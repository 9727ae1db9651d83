"""The decode step behind a prompt that was launched kernel by kernel, on one GPU."""

from __future__ import annotations

from statistics import median

from benchmarks.behind_prompts import beyond
from benchmarks.validation import DATA, PROFILE, simulated

from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.runs import load_runs

H200 = load_profile(PROFILE)


def test_it_lasts_as_long_as_any_other_on_an_h200() -> None:
    """Within a third of a millisecond of 5: what it begins before it is launched would be 1.4."""
    found = list(beyond(load_runs(DATA / "grid").runs, H200))
    behind, others = (median(each.ms for each in found if each.behind is one) for one in (True, False))
    assert abs(behind - others) < 0.33


def test_it_lasts_as_long_as_any_other_in_the_simulator() -> None:
    found = [each.ms for each in beyond(simulated(batches=(8,), names=("composite",)), H200) if each.behind]
    assert len(found) > 20
    assert max(map(abs, found)) < 0.05

"""How late the client was is told of calls that nothing held."""

from __future__ import annotations

import pytest
from benchmarks.lateness import calls_s, stated_s
from benchmarks.validation import DATA

from rejoule.replay.engines.sim import LATE_S
from rejoule.traces.runs import load_runs


def test_calls_that_a_policy_held_are_not_taken_for_late_ones() -> None:
    """Only by the run's own median; one that held none tells of each call."""
    runs = load_runs(DATA / "scheduling" / "policies").runs
    held = {run.configuration.policy: not calls_s(run) for run in runs}
    assert held["parrot"]
    assert not held["fcfs"]
    assert all(stated_s(run) is not None for run in runs)


def test_the_simulated_client_is_as_late_as_that_of_the_kept_workloads() -> None:
    """Within a tenth of a millisecond, by the median run."""
    late = sorted(seconds for run in load_runs(DATA / "options").runs if (seconds := stated_s(run)) is not None)
    assert late[len(late) // 2] == pytest.approx(LATE_S, abs=1e-4)

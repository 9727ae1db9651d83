"""Runs of every format version so far are still read."""

from __future__ import annotations

from pathlib import Path

import pytest

from rejoule.traces.errors import RejouleError
from rejoule.traces.migrate import migrated_run
from rejoule.traces.run import RUN_FORMAT_VERSION
from rejoule.traces.runs import load_run

STORED = Path(__file__).parent / "stored"


@pytest.mark.parametrize("version", range(1, RUN_FORMAT_VERSION))
def test_stored_runs(version: int) -> None:
    """What an old run did not know of each GPU stays unknown; without a seal, it is taken as it is."""
    run = load_run(STORED / f"run-v{version}", "run")
    assert run.format_version == RUN_FORMAT_VERSION
    assert run.steps and run.readings and not any(reading.gpus_j for reading in run.readings)


def test_what_was_evicted_is_no_violation_any_more() -> None:
    """One that found less when there may have been no room; to find less before that, or too much, stays one."""
    held = load_run(STORED / "run-v3", "run").certificate
    assert held.evicted_calls == 1
    assert [violation.split()[0] for violation in held.violations] == ["w0000/c001", "w0000/c004", "w0000/c005"]


def test_a_run_from_the_future_is_refused() -> None:
    """By what is written in it, with what to do."""
    with pytest.raises(RejouleError, match="format version 99"):
        migrated_run({"format_version": 99}, "run.json")

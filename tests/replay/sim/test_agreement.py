"""The shipped calibrated profile agrees with measured runs that it was not fitted to."""

from __future__ import annotations

import pytest
from benchmarks.validation import DATA, simulated

from rejoule.analysis.validate import ENERGY, Row, Validation, validate
from rejoule.replay.sim.profile import load_profile
from rejoule.traces.runs import load_runs

NAMES = ("agentic", "sequential")
BATCHES = (1, 8, 64)


@pytest.fixture(scope="module")
def found() -> Validation:
    measured = [run for run in load_runs(DATA / "workloads-watched").runs if run.trace in NAMES]
    return validate(simulated(batches=BATCHES, names=NAMES), measured)


@pytest.mark.parametrize(
    ("metric", "mean", "worst"),
    [
        ("workflow time", 0.02, 0.05),
        ("SM clock under load", 0.01, 0.02),
        ("time between tokens", 0.04, 0.12),
        ("time to first token, mean", 0.15, 0.4),
        (ENERGY, 0.02, 0.04),
    ],
)
def test_errors_stay_within_bounds(found: Validation, metric: str, mean: float, worst: float) -> None:
    row = row_of(found, metric)
    assert row.mape < mean
    assert abs(row.worst.error) < worst


def test_differences_in_energy_between_batch_sizes_have_the_measured_sign(found: Validation) -> None:
    energy = [d for d in found.decisive if d.metric == ENERGY]
    assert energy and all(d.simulated * d.measured > 0 for d in energy)


def test_the_profile_states_its_data_and_its_errors() -> None:
    profile = load_profile("h200-llama-3.1-8b")
    assert profile.calibrated
    assert profile.provenance["runs"] == "grid-fcefa1bbb0-t0"
    assert profile.held_out


def row_of(found: Validation, metric: str) -> Row:
    return next(row for row in found.rows if row.metric == metric)

"""The shipped calibrated profile agrees with measured runs that it was not fitted to."""

from __future__ import annotations

import pytest
from benchmarks.pieces import pieces
from benchmarks.validation import DATA, simulated

from rejoule.analysis.validate import ENERGY, Row, Validation, validate
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.runs import load_runs


@pytest.fixture(scope="module")
def found() -> Validation:
    return validate(simulated(), load_runs(DATA / "workloads-watched").runs)


@pytest.mark.parametrize(
    ("metric", "mean", "worst"),
    [
        ("workflow time", 0.03, 0.06),
        ("SM clock under load", 0.01, 0.02),
        ("time between tokens", 0.03, 0.07),
        ("time to first token, mean", 0.09, 0.20),
        (ENERGY, 0.03, 0.06),
    ],
)
def test_errors_stay_within_bounds(found: Validation, metric: str, mean: float, worst: float) -> None:
    """Over the four workloads at the four batch sizes."""
    row = row_of(found, metric)
    assert row.mape < mean
    assert abs(row.worst.error) < worst


def test_differences_between_batch_sizes_have_the_measured_sign(found: Validation) -> None:
    """Those of energy all, and 95 % of all together."""
    right = {d: d.simulated * d.measured > 0 for d in found.decisive}
    assert all(each for d, each in right.items() if d.metric == ENERGY)
    assert sum(right.values()) >= 0.95 * len(right)


def test_pieces_of_first_tokens_add_up() -> None:
    """Measured or simulated, what a first token waits for is split without a rest, and nothing of it is negative."""
    for run in [*load_runs(DATA / "workloads-other-card").runs, *simulated(batches=(8,), names=("composite",))]:
        found = pieces(run)
        assert len(found) == len(run.calls)
        for call in run.calls:
            assert call.first_token_s is not None
            assert found[call.id].total == pytest.approx(call.first_token_s - call.sent_s)
            assert min(found[call.id]) > 0


def test_the_profile_states_its_data_and_its_errors() -> None:
    profile = load_profile("h200-llama-3.1-8b")
    assert profile.calibrated
    assert profile.provenance["runs"] == "grid-fcefa1bbb0-t0"
    assert profile.held_out


def row_of(found: Validation, metric: str) -> Row:
    return next(row for row in found.rows if row.metric == metric)

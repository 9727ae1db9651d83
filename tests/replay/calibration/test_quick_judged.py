"""What a quick calibration was judged by, and by what it was not, is said."""

from __future__ import annotations

import pytest
from benchmarks.full_batches import MOST, idle, told
from benchmarks.quick import of_other_card, of_trials
from benchmarks.validation import DATA

from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs


def by_trace(folder: str) -> dict[str, Run]:
    return {run.trace: run for run in load_runs(DATA / folder).runs}


def test_a_grid_alone_is_said_to_have_neither_workloads_nor_full_batches() -> None:
    """Those of another card do not take their place."""
    assert "No workloads were given" in of_trials([])
    assert [*told(None, None)] == ["No full batches were given (--full): ratio and clock are not judged."]


@pytest.mark.parametrize(
    ("folder", "words"), [("unseen-grid", None), ("unseen-grid-second", "another card"), ("workloads", "not known")]
)
def test_runs_of_another_card_than_the_grids_are_said_to_be(folder: str, words: str | None) -> None:
    """And those that do not say of which card they are."""
    said = of_other_card("runs", load_runs(DATA / folder).runs, by_trace("unseen-grid")["grid"])
    assert said is None if words is None else words in str(said)


def test_cells_of_one_trial_are_counted() -> None:
    """Batch 1 of the watched workloads, and all of the unseen card's."""
    assert of_trials(load_runs(DATA / "workloads-watched").runs).startswith("4 of 12 cells")
    assert of_trials(load_runs(DATA / "unseen-workloads").runs).startswith("12 of 12 cells")
    assert of_trials(load_runs(DATA / "workloads").runs) == "All cells are of 3 trials and more."


def test_a_server_that_cannot_stream_to_all_clients_leaves_its_engine_idle() -> None:
    """For a sixth of the second card's full batch, at less power than in the rest; hardly on the first card."""
    (kept, behind) = (idle([by_trace(folder)[MOST]]) for folder in ("unseen-grid", "unseen-grid-second"))
    assert kept is not None
    assert behind is not None
    assert kept.time < 0.02
    assert behind.time == pytest.approx(0.17, abs=0.01)
    assert 0.0 < behind.joules < behind.time / 2

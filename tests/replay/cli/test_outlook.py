from __future__ import annotations

from pathlib import Path

from rejoule.replay.cli.outlook import outlook
from rejoule.traces.run import Configuration

TWO = [Configuration("vllm", max_num_seqs=8), Configuration("vllm", max_num_seqs=64)]
KEPT = Path(__file__).parents[3] / "benchmarks" / "h200" / "workloads"


def test_trials_are_told_what_they_will_find(tmp_path: Path) -> None:
    """By the spread of kept runs, called so, and by the folder's own once it has any."""
    (line,) = outlook(TWO, 3, tmp_path)
    assert line.startswith("3 trials find an increase of 8.9 % in joules in 80 of 100 cases")
    assert "of yours nothing is known yet" in line and "5 % takes 5 trials" in line
    (own,) = outlook(TWO, 3, KEPT)
    assert "spread by 1.2 %" in own and "find an increase of 8.1 %" in own


def test_one_trial_shows_nothing_and_simulated_ones_are_equal(tmp_path: Path) -> None:
    """One measured trial is told that it shows no difference; several simulated ones that one would do."""
    assert "one trial shows no difference" in next(outlook(TWO, 1, tmp_path))
    assert list(outlook([Configuration(), Configuration(max_num_seqs=8)], 1, tmp_path)) == []
    assert "trials of the simulated engine are equal" in next(outlook([Configuration()], 3, tmp_path))

"""``rejoule calibrate`` writes the grid, measures it, and fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from rejoule.replay.calibration.fit import errors
from rejoule.replay.cli.calibrate import calibrate
from rejoule.replay.cli.replay import replay
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces import RejouleError
from rejoule.traces.store import load

TINY = ("--cell-s", "0.02", "--max-num-seqs", "8", "--max-model-len", "4096", "--kv-tokens", "40000")


def test_the_grid_can_be_written_alone(tmp_path: Path) -> None:
    out = tmp_path / "grid.jsonl.zst"
    result = CliRunner().invoke(calibrate, ["--grid-only", "-o", str(out), *TINY])
    assert result.exit_code == 0, result.output
    assert "decode-b8-c2048" in load(out).nodes


def test_a_grid_of_longer_contexts_than_its_model_has_says_so(tmp_path: Path) -> None:
    words = ["--grid-only", "-o", str(tmp_path / "grid.jsonl.zst"), "--max-model-len"]
    notes = [CliRunner().invoke(calibrate, [*words, length]).output for length in ("131072", "131073")]
    assert [
        "are longer than the model of h200-llama-3.1-8b takes (131,072)" in " ".join(note.split()) for note in notes
    ] == [False, True]


def test_it_measures_and_fits_in_one_go(tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    words = ["-o", str(out), "--engine", "sim", "--sm-clock", "none,1200", "--timing-only", "--json", *TINY]
    result = CliRunner().invoke(calibrate, words)
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["errors"]["all"]["mape"] < 0.01
    assert load_profile(str(out)).name == "mine"
    again = CliRunner().invoke(calibrate, [str(tmp_path / "mine/runs"), "-o", str(out), "--timing-only"])
    assert again.exit_code == 0 and ("fewer than 10 values" in again.stdout) == any(
        error and error["r2"] is None for error in told["errors"].values()
    )


def test_a_quick_calibration_writes_a_child_that_a_replay_takes(tmp_path: Path) -> None:
    out = tmp_path / "mine.json"
    words = ["-o", str(out), "--quick", "--engine", "sim", "--timing-only", "--json", *TINY]
    result = CliRunner().invoke(calibrate, words)
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout)
    assert told["parent"] == "h200-llama-3.1-8b" and "power" not in told["errors"]
    assert told["errors"]["first token"]["after"] < 0.02
    trace = tmp_path / "mine" / "grid.jsonl.zst"
    again = CliRunner().invoke(replay, [str(trace), "-o", str(tmp_path / "sim"), "--profile", str(out), "--json"])
    assert again.exit_code == 0, again.output


def test_the_quick_grid_is_shorter(tmp_path: Path) -> None:
    calls = {}
    for name, words in {"quick": ["--quick"], "full": []}.items():
        out = tmp_path / f"{name}.jsonl.zst"
        result = CliRunner().invoke(calibrate, ["--grid-only", "-o", str(out), *words])
        assert result.exit_code == 0, result.output
        calls[name] = len(list(load(out).calls))
    assert calls["quick"] < calls["full"] / 2


def test_few_or_equal_values_have_no_r2() -> None:
    """The share of variance that is explained is told only where there is variance to explain."""
    many = np.linspace(1.0, 2.0, 20)
    assert errors(many * 1.01, many).r2 == pytest.approx(1.0, abs=0.01)
    assert errors(many[:5] * 1.01, many[:5]).r2 is None
    alike = 1.0 + many / 100
    assert errors(alike * 1.01, alike).r2 is None
    assert errors(many[::-1].copy(), many).r2 is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "p.json"], "no RUNS to fit"),
        (["-o", "p.txt", "runs"], "not the name of a profile"),
        (["-o", "t.zst", "--grid-only", "runs"], "--grid-only reads no runs"),
        (["-o", "p.json", "none"], "not a run folder"),
        (["-o", "p.json", "--engine", "http://localhost:1"], "does not show its steps; add --quick"),
        (["-o", "p.json", "--quick", "--engine", "sim"], "no watts to measure; add --timing-only"),
        (["-o", "p.json", "--quick", "--holdout", "x", "runs"], "--quick judges no held-out runs"),
    ],
)
def test_mistakes_are_told(words: list[str], said: str) -> None:
    result = CliRunner().invoke(calibrate, words)
    assert isinstance(result.exception, RejouleError)
    assert said in str(result.exception)

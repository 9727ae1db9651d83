from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner, Result
from tests.analysis import builders

from rejoule.analysis.commands import diff, report
from rejoule.traces import runs
from rejoule.traces.errors import RejouleError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: one workload, two batch sizes, two caps, two trials."""
    path = tmp_path_factory.mktemp("folder") / "runs"
    traces = {"agentic": builders.trace(3)}
    found = builders.grid(traces, [1, 8], [300.0, None], trials=2)
    planned = tuple(runs.PlannedRun(r.id, r.trace, r.configuration, r.trial) for r in found)
    runs.create(path, runs.Experiment({"agentic": "d"}, planned, 2, 0, "0.1.0"), traces)
    for run in found:
        runs.save_run(path, run)
    return path


def invoke(command: click.Command, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=True, env={"COLUMNS": "160"})


def refusal(command: click.Command, *words: object) -> str:
    result = invoke(command, *words)
    assert isinstance(result.exception, RejouleError), result.output
    return str(result.exception)


def test_diff_prints_a_headline_and_tables(folder: Path) -> None:
    """People get a sentence, the whole runs, and joules by what they asked for, labelled by source."""
    wanted = ("--a", "max_num_seqs=1", "--b", "max_num_seqs=8", "--a", "power_cap_w=none", "--b", "power_cap_w=none")
    result = invoke(diff, folder, *wanted, "--by", "phase")
    assert result.exit_code == 0, result.exception
    assert "less energy than batch 1" in result.stdout
    assert "agentic: joules by phase, energy modelled (model:made-up)" in result.stdout
    assert "prefill" in result.stdout and "plan" not in result.stdout


def test_diff_prints_one_json_object(folder: Path) -> None:
    """Machines get every row, with null for what is not known."""
    one = ("max_num_seqs=8", "power_cap_w=300")
    chosen = [word for side in ("--a", "--b") for knob in one for word in (side, knob)]
    result = invoke(diff, folder, folder, *chosen, "--json")
    body = orjson.loads(result.stdout)
    assert {row["scope"] for row in body["rows"]} == {"workload", "node", "phase"}
    assert all(row["verdict"] == "no difference" and row["delta"] == 0.0 for row in body["rows"])
    assert body["source"] == "modelled (model:made-up)"


def test_diff_refuses_with_a_remedy(folder: Path, tmp_path: Path) -> None:
    """What cannot be compared gets one line that says what to do."""
    assert "--a KNOB=VALUE and --b KNOB=VALUE" in refusal(diff, folder)
    assert "power_cap_w is none, 300" in refusal(diff, folder, "--a", "max_num_seqs=1", "--b", "max_num_seqs=8")
    assert "1, 8" in refusal(diff, folder, "--a", "max_num_seqs=3", "--b", "max_num_seqs=8")
    assert "is not a run folder" in refusal(diff, tmp_path, folder)


def test_report_writes_the_page(folder: Path, tmp_path: Path) -> None:
    """The page is written, and its path and size are printed."""
    page = tmp_path / "page.html"
    result = invoke(report, folder, "-o", page, "--title", "Ours")
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith(str(page)) and "MB" in result.stdout
    assert "<h1>Ours</h1>" in page.read_text()
    body = orjson.loads(invoke(report, folder, "-o", page, "--json").stdout)
    assert body == {"path": str(page), "bytes": page.stat().st_size}


def test_report_refuses_what_it_cannot_write(folder: Path, tmp_path: Path) -> None:
    """An output that cannot be written is one line with a remedy."""
    assert "choose another path with -o" in refusal(report, folder, "-o", tmp_path / "none" / "page.html")


def test_commands_load_fast() -> None:
    """The commands import neither NumPy nor Plotly until they run."""
    script = "import sys, rejoule.analysis.commands; print(sorted({'numpy', 'plotly', 'rich'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

"""``rejoule findings``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import rejoule
from rejoule.analysis.cli.findings import findings
from rejoule.analysis.findings.finding import shipped
from rejoule.analysis.findings.lacking import sweep
from rejoule.replay.cli.replay import replay
from rejoule.replay.cli.sweep import sweeps
from rejoule.traces.errors import RejouleError
from rejoule.traces.testing import random_trace

MINE = """\
id = "mine"
claim = "A batch of eight is no slower than one of one"
source = "this test"
test = "ends"
knob = "max_num_seqs"
from = 1
to = 8
metric = "makespan"
expect = "less"
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few runs of the simulated engine."""
    folder = tmp_path_factory.mktemp("findings") / "runs"
    sweep: dict[str, list[float]] = {"max_num_seqs": [1, 8], "power_cap_w": [200.0, 700.0]}
    with pytest.warns(rejoule.RejouleWarning, match="clock curve assumed"):
        rejoule.replay_traces(
            {"made-up": random_trace(1)}, folder, {"arrivals": "users:2"}, sweep=sweep, progress=False
        )
    return folder


def asked(*words: str | Path) -> str:
    result = CliRunner().invoke(findings, [str(word) for word in words], env={"COLUMNS": "160"})
    if result.exception is not None:
        raise result.exception
    return str(result.stdout)


def test_a_finding_of_ones_own(runs: Path, tmp_path: Path) -> None:
    """It is asked beside those that ReJoule has; ``--only`` asks of it alone."""
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    body = json.loads(asked(runs, "--finding", path, "--only", "mine", "--json"))
    assert [(f["id"], f["verdict"]) for f in body["findings"]] == [("mine", "holds")]
    assert {r["where"] for r in body["findings"][0]["readings"]} == {"200 W cap", "700 W cap"}
    out = asked(runs, "--finding", path)
    assert "A batch of eight" in out and "batch-strongest" in out
    assert "by node, made-up, time in calls a workflow: " in out


def test_what_cannot_be_told_says_why(runs: Path) -> None:
    """Each finding that these runs do not allow has its reason, with what to replay, and stands behind those told."""
    found = {f["id"]: f for f in json.loads(asked(runs, "--json"))["findings"]}
    assert found["output-linear"]["verdict"] == "cannot tell"
    assert found["output-linear"]["reason"] == (
        "only one value of output scale was run; replay with --sweep output_scale=1,2,4"
    )
    assert "the graph interactive, and the graph sequential or agentic" in found["batch-shared-most"]["reason"]
    out = asked(runs)
    assert out.index("caps-cost-time") < out.index("Cannot be told from these runs") < out.index("output-linear")
    assert f"of {len(found)} findings" in out


def test_what_is_said_to_be_lacking_can_be_run(runs: Path, tmp_path: Path) -> None:
    """The option that a reason names is one of ``rejoule replay``'s, for every knob that findings are asked along."""
    for knob in {finding.knob for finding in shipped()}:
        word = sweep(knob).split()[1]
        (values,) = sweeps([word], ()).values()
        assert len(values) > 1 and "A" not in values
    trace = next((runs / "traces").iterdir())
    result = CliRunner().invoke(replay, [str(trace), "-o", str(tmp_path / "runs"), *sweep("users").split()])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [
        ("--only", "nothing", "no finding is called 'nothing'"),
        ("--finding", "missing.toml", "cannot read missing.toml"),
    ],
)
def test_mistakes_are_named(runs: Path, option: str, value: str, what: str) -> None:
    """An unknown id and a missing file end in what the front of the command line prints as one line."""
    with pytest.raises(RejouleError, match=what):
        asked(runs, option, value)

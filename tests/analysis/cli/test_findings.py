"""``rejoule findings``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import rejoule
from rejoule.analysis.cli.findings import findings
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


def test_what_cannot_be_told_says_why(runs: Path) -> None:
    """Each finding that these runs do not allow has its reason, and the table counts it."""
    found = {f["id"]: f for f in json.loads(asked(runs, "--json"))["findings"]}
    assert found["output-linear"]["verdict"] == "cannot tell"
    assert found["output-linear"]["reason"] == "only one value of output_scale was run"


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

"""Successes that are said after the recording."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from rejoule.traces.commands import inspect, label
from rejoule.traces.errors import RejouleError
from rejoule.traces.store import load, save
from rejoule.traces.testing import random_trace


def labelled(folder: Path, said: str, *more: str) -> str:
    """What the command prints for three workflows."""
    save(random_trace(1), folder / "t.jsonl")
    words = [str(folder / "t.jsonl"), said, "-o", str(folder / "out.jsonl"), *more]
    result = CliRunner().invoke(label, words)
    if isinstance(result.exception, RejouleError):
        raise result.exception
    assert result.exit_code == 0
    return result.stdout


def test_labels_are_kept_and_shown(tmp_path: Path) -> None:
    """Later labels leave those that they do not name as they are."""
    assert labelled(tmp_path, '{"w0000": true, "w0002": false}') == "success: 1 of 3 workflows, of 1 it is not known\n"
    (tmp_path / "more.json").write_text('{"w0001": true, "w0002": null}')
    out = [str(tmp_path / "out.jsonl"), f"@{tmp_path / 'more.json'}", "-o", str(tmp_path / "both.jsonl.zst"), "--json"]
    told = {"yes": 2, "no": 0, "unknown": 1}
    assert orjson.loads(CliRunner().invoke(label, out).stdout)["success"] == told
    assert [w.success for w in load(tmp_path / "both.jsonl.zst").workflows] == [True, True, None]
    assert "done, succeeded" in CliRunner().invoke(inspect, [str(tmp_path / "out.jsonl")]).stdout
    shown = CliRunner().invoke(inspect, [str(tmp_path / "both.jsonl.zst"), "--json"]).stdout
    assert orjson.loads(shown)["success"] == told


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('{"w9": true}', "no workflow w9; it has 3 workflows"),
        ('{"w0000": 1}', "neither true, false nor null"),
        ("[true]", "name no workflow"),
        ("{}", "name no workflow"),
        ("{", "no JSON"),
        ("@nowhere", "cannot read nowhere"),
    ],
)
def test_labels_that_say_nothing_are_refused(tmp_path: Path, said: str, why: str) -> None:
    """With what is wrong, and nothing written."""
    with pytest.raises(RejouleError, match=why):
        labelled(tmp_path, said)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_trace_changed_by_hand_is_not_made_whole(tmp_path: Path) -> None:
    """A labelled copy would no longer say that somebody changed it; nor is a file written over unasked."""
    labelled(tmp_path, '{"w0000": true}')
    with pytest.raises(RejouleError, match=r"out.jsonl exists"):
        labelled(tmp_path, '{"w0000": true}')
    path = tmp_path / "edited.jsonl"
    path.write_bytes((tmp_path / "t.jsonl").read_bytes().replace(b'"made-up"', b'"made-upp"'))
    result = CliRunner().invoke(label, [str(path), '{"w0000": true}', "-o", str(tmp_path / "copy.jsonl")])
    assert isinstance(result.exception, RejouleError) and "changed by hand" in str(result.exception)

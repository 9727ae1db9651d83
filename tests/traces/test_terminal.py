from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.cli.main import main
from rejoule.traces.commands import inspect
from rejoule.traces.store import load, save
from rejoule.traces.terminal import console, on_one_line, shown
from rejoule.traces.testing import random_trace

NASTY = "\x1b]52;c;cHduZWQ=\x1b\\[/x] worker[a]\udc80\u202e"


@given(st.text())
def test_nothing_that_is_shown_steers_a_terminal(text: str) -> None:
    """What is left is printable, but for line ends and tabs, and can be written as UTF-8."""
    safe = shown(text)
    assert not any(ord(c) < 0x20 and c not in "\n\t" for c in safe)
    assert "\x7f" not in safe and "\x9b" not in safe
    safe.encode()
    assert len(on_one_line(text).splitlines()) <= 1


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    """A node's name is neither markup nor an escape sequence."""
    save(random_trace(3, workflows=1, vertices=4), tmp_path / "t.jsonl")
    body = (tmp_path / "t.jsonl").read_text().replace('"node":"c000"', '"node":"w[/x]\\u001b[31mred"')
    (tmp_path / "t.jsonl").write_text(body)
    assert "w[/x]\x1b[31mred" in {call.node for call in load(tmp_path / "t.jsonl").calls}
    said = CliRunner().invoke(inspect, [str(tmp_path / "t.jsonl")], env={"COLUMNS": "120"})
    assert said.exit_code == 0
    assert "w[/x]\\x1b[31mred" in said.output, said.output
    assert "\x1b" not in said.output


def test_a_console_shows_anything(capsys: pytest.CaptureFixture[str]) -> None:
    """No markup is read, and nothing steers."""
    console(width=100).print(NASTY)
    out = capsys.readouterr().out
    assert "[/x] worker[a]\\udc80\\u202e" in out
    assert "\x1b" not in out


def test_an_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a message holds, the command line ends in one line without escapes."""
    monkeypatch.setattr("sys.argv", ["rejoule", "inspect", "no\nsuch\x1b[31mfile"])
    with pytest.raises(SystemExit):
        main()
    err = capsys.readouterr().err
    assert err.startswith("error: no\\nsuch\\x1b[31mfile does not exist")
    assert err.count("\n") == 1

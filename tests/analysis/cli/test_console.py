"""Tables for a terminal."""

from __future__ import annotations

import sys

import pytest

from rejoule.analysis.cli.console import show, wrapped
from rejoule.analysis.cli.reading import working

HEADS = ("", "", "joules a workflow", "workflow latency p99", "average power", "objectives", "workflows an hour a GPU")
ROWS = [
    ("batch 64, 300 W cap", "best, front", "57.1 J ±3.43 J", "1.62 s ±58.6 ms", "281 W", "keeps", "17,744 /h"),
    ("no policy", "", "3,677.1 J", "9.75 s", "421 W", "may miss", "2,935 /h"),
]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_tables_are_as_wide_as_the_terminal_and_lose_nothing(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    show("what to set", HEADS, ROWS, "said below")
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert all(cell in out for row in ROWS for cell in row[1:])
    assert all(word in out for head in HEADS for word in head.split())


def test_columns_that_find_no_room_go_on_below_beside_the_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    show("what to set", HEADS, ROWS)
    assert capsys.readouterr().out.count("no policy") > 1


def test_a_number_wider_than_the_terminal_stays_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    show("wide", ("name", "digits"), [("a", "1" * 40)])
    assert "1" * 40 in capsys.readouterr().out


def test_headings_break_between_words_alone() -> None:
    assert wrapped("workflow latency p99", 4) == "workflow\nlatency\np99"


def test_what_takes_its_time_is_said_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal is told what is going on; a pipe gets results and nothing else."""
    for terminal in (True, False):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        with working("reading my\nruns"):
            pass
        out, err = capsys.readouterr()
        assert out == "" and ("reading my\\nruns" in err) == terminal

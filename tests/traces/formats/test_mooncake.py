"""Mooncake traces become traces whose prompts share what their hash ids say."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rejoule.traces import RejouleError
from rejoule.traces.check import problems
from rejoule.traces.formats.commands import import_
from rejoule.traces.formats.mooncake import header, workflows
from rejoule.traces.made_tokens import VOCABULARY, MadeTokens
from rejoule.traces.model import Trace
from rejoule.traces.store import load

SAMPLE = """\
{"timestamp": 0, "input_length": 1200, "output_length": 5, "hash_ids": [0, 1, 2]}
{"timestamp": 0, "input_length": 1030, "output_length": 700, "hash_ids": [0, 1, 3]}

{"timestamp": 2500, "input_length": 512, "output_length": 1, "hash_ids": [7]}
"""


def written(folder: Path, text: str = SAMPLE) -> Path:
    file = folder / "requests.jsonl"
    file.write_text(text)
    return file


def test_equal_hash_ids_are_equal_tokens_and_others_differ(tmp_path: Path) -> None:
    a, b, c = (w.calls[0].prompt_token_ids or () for w in workflows(written(tmp_path)))
    assert a[:1024] == b[:1024]
    assert a[1024] != b[1024]
    assert c[0] not in (a[0], a[512])
    assert [len(ids) for ids in (a, b, c)] == [1200, 1030, 512]


def test_lengths_and_arrivals_are_those_of_the_file(tmp_path: Path) -> None:
    file = written(tmp_path)
    trace = Trace(header(file), tuple(workflows(file)))
    assert problems(trace) == []
    assert [w.arrival_ns for w in trace.workflows] == [0, 0, 2_500_000_000]
    assert [len(c.token_ids or ()) for c in trace.calls] == [5, 700, 1]


def test_a_limit_and_a_longest_request_leave_the_others_out(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert len(list(workflows(file, limit=2))) == 2
    assert [w.calls[0].prompt_tokens for w in workflows(file, longest=1205)] == [1200, 512]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2"),
        ('{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0]}', "2 blocks of 512"),
        ('{"timestamp": 0, "input_length": 0, "output_length": 5, "hash_ids": []}', "input_length"),
        ('{"timestamp": -1, "input_length": 1, "output_length": 5, "hash_ids": [1]}', "timestamp"),
        ('{"timestamp": 0, "input_length": 1, "output_length": 5}', "hash_ids"),
        ('{"input_length": 1, "output_length": 5, "hash_ids": [1]}', "neither a timestamp nor a session_id"),
        ('{"timestamp": 0, "delay": 5, "input_length": 1, "output_length": 5, "hash_ids": [1]}', "no session_id"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = written(tmp_path, SAMPLE.splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(RejouleError, match="line 2") as error:
        list(workflows(file))
    assert said in str(error.value)


def test_a_file_without_requests_or_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RejouleError, match="no request"):
        list(workflows(written(tmp_path, "\n")))
    with pytest.raises(RejouleError, match="cannot read"):
        list(workflows(tmp_path / "none"))


def test_the_command_writes_a_trace_that_loads(tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl.zst"
    result = CliRunner().invoke(import_, ["mooncake", str(written(tmp_path)), "-o", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == '{"calls":3,"prompt_tokens":2742,"output_tokens":706}'
    assert sum(1 for _ in load(out).calls) == 3


def test_a_failed_import_leaves_no_trace(tmp_path: Path) -> None:
    out = tmp_path / "t.jsonl.zst"
    file = written(tmp_path, SAMPLE + "{\n")
    result = CliRunner().invoke(import_, ["mooncake", str(file), "-o", str(out)])
    assert isinstance(result.exception, RejouleError)
    assert not out.exists()


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.integers(3, 64))
def test_made_texts_differ_by_their_first_tokens(a: int, b: int, tokens: int) -> None:
    made = MadeTokens(64, seed=1)
    assert (made.of(a, tokens) == made.of(b, tokens)) == (a == b)
    assert made.of(a, 64)[:tokens] == made.of(a, tokens)
    assert all(i in VOCABULARY for i in made.of(a, tokens))


SESSIONS = """\
{"session_id": "a", "timestamp": 100, "input_length": 600, "output_length": 40, "hash_ids": [1, 2]}
{"session_id": "b", "input_length": 600, "output_length": 40, "hash_ids": [1, 5], "priority": 3, "note": null}
{"session_id": "a", "timestamp": 0, "delay": 5000, "input_length": 1100, "output_length": 30, "hash_ids": [1, 3, 4]}
{"session_id": "a", "timestamp": 700, "input_length": 1100, "output_length": 30, "hash_ids": [1, 3, 4]}
{"session_id": "b", "input_length": 1500, "output_length": 30, "hash_ids": [1, 3, 4]}
{"session_id": "b", "input_length": 10, "output_length": 30, "hash_ids": [6]}
"""


def test_a_turn_follows_its_session_after_its_delay(tmp_path: Path) -> None:
    """A session is a workflow of turns one after another, each begun its delay after the one before has ended."""
    file = written(tmp_path, SESSIONS)
    trace = Trace(header(file), tuple(workflows(file)))
    assert problems(trace) == []
    a, b = trace.workflows
    assert [len(a.calls), len(b.calls)] == [3, 3]
    assert a.arrival_ns == 100_000_000
    assert list(a.gaps_ns.values()) == [0, 5_000_000_000, 700_000_000]
    for edges in ("barrier", "trigger"):
        waits = list(a.predecessors(edges).values())
        assert waits == [(), (a.calls[0].id,), (a.calls[1].id,)]


def test_what_an_import_leaves_out_is_told_with_counts(tmp_path: Path) -> None:
    """Fields that are not taken, times that are taken otherwise and turns cut off: in one line, and in JSON."""
    file = written(tmp_path, SESSIONS)
    given = ["mooncake", str(file), "-o", str(tmp_path / "t.jsonl"), "--max-model-len", "1500"]
    told = CliRunner().invoke(import_, given).stderr
    assert told.count("\n") == 1
    priority, cut = "lines with the field 'priority': 1", "turns after one that is too long: 1"
    for said in (priority, cut, "sessions without a timestamp, which begin at 0: 1", "after the turn before: 1"):
        assert said in told
    assert "note" not in told
    assert "\"lines with the field 'priority'\":1" in CliRunner().invoke(import_, [*given, "--json"]).stdout

"""What a trace file promises its writer and its reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.traces import RejouleError
from rejoule.traces.model import Call, Task, ToolCall
from rejoule.traces.store import KINDS, TraceWriter, load, save, trace_digest
from rejoule.traces.testing import made_call, made_tool, made_trace, made_workflow, random_trace

SUFFIXES = [".jsonl", ".jsonl.zst"]


@given(seed=st.integers(0, 10_000), suffix=st.sampled_from(SUFFIXES))
@settings(max_examples=40, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, seed: int, suffix: str) -> None:
    """What is saved is what is loaded."""
    path = tmp_path_factory.mktemp("t") / f"trace{suffix}"
    trace = random_trace(seed)
    save(trace, path)
    assert load(path) == trace
    assert trace_digest(load(path)) == trace_digest(trace)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.999])
def test_cut(tmp_path: Path, suffix: str, share: float) -> None:
    """A cut trace is refused with the remedy, and everything that was complete before the cut is salvaged."""
    path = tmp_path / f"trace{suffix}"
    trace = random_trace(3, workflows=20)
    save(trace, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(RejouleError, match="--salvage"):
        load(path)
    if suffix == ".jsonl":
        kept = load(path, salvage=True).workflows
        whole = path.read_bytes().count(b'"record":"workflow"')
        assert whole - 1 <= len(kept) <= whole
        assert kept == trace.workflows[: len(kept)]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda line: b"{nonsense\n", "line 3"),
        (lambda line: line.replace(b'"record":"', b'"record":"un'), "line 3"),
        (lambda line: line.replace(b'_ns":', b'_ns":"x",'), "line 3"),
        (lambda line: b"", "here"),
    ],
)
def test_corrupt(tmp_path: Path, damage: object, message: str) -> None:
    """A corrupt line is named."""
    path = tmp_path / "trace.jsonl"
    save(random_trace(1), path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert callable(damage)
    lines[2] = damage(lines[2])
    path.write_bytes(b"".join(lines))
    with pytest.raises(RejouleError, match=message):
        load(path)


def test_cycle(tmp_path: Path) -> None:
    """Edges that go round in a cycle are refused by name."""
    calls = [made_call("w0000", "a", 0, 1), made_call("w0000", "b", 1, 2)]
    path = tmp_path / "trace.jsonl"
    save(made_trace([made_workflow(calls, {"trigger": [("a", "b"), ("b", "a")]})]), path)
    with pytest.raises(RejouleError, match=r"trigger edges of w0000 go round in a cycle"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_tokens": -5}, "w0000/a has -5 output tokens"),
        ({"prompt_tokens": 10**9 + 1}, "w0000/a has 1000000001 prompt tokens"),
        ({"cached_tokens": 33}, "w0000/a has more cached tokens than prompt tokens"),
        ({"node": ""}, "a names no node"),
        ({"submit_ns": -1}, "a began before the recording"),
        ({"first_token_ns": -1}, "w0000/a had its first token before it was sent"),
        ({"chunk_ns": (-1,)}, "w0000/a had a chunk before it was sent"),
        ({"request": {"messages": 5}}, "the messages of w0000/a are no list of messages"),
        ({"request": {"messages": ["Hello"]}}, "the messages of w0000/a are no list of messages"),
        (
            {"request": {"messages": [{"role": "assistant", "tool_calls": [1]}]}},
            "the messages of w0000/a are no list of messages",
        ),
    ],
)
def test_impossible_calls(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """A call that cannot have been is refused by its name, and not salvaged."""
    path = tmp_path / "trace.jsonl"
    save(made_trace([made_workflow([replace(made_call("w0000", "a", 0, 1), **change)], {})]), path)
    with pytest.raises(RejouleError, match=message):
        load(path)
    with pytest.raises(RejouleError, match="no workflow in it is complete"):
        load(path, salvage=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"arrival_ns": -1}, "w0000 arrived before"), ({"end_ns": -1}, "w0000 ended before it arrived")],
)
def test_impossible_workflows(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """A workflow that cannot have been is refused by its name."""
    path = tmp_path / "trace.jsonl"
    save(made_trace([replace(made_workflow([made_call("w0000", "a", 0, 1)], {}), **change)]), path)
    with pytest.raises(RejouleError, match=message):
        load(path)


@pytest.mark.parametrize("kept", [False, True])
def test_failed_recording_without_records(tmp_path: Path, kept: bool) -> None:
    """A recording that fails leaves its file only if there is a call or a workflow in it."""
    path = tmp_path / "trace.jsonl"
    with pytest.raises(ZeroDivisionError), TraceWriter(path, random_trace(1).header) as writer:
        writer.add(Task("w0000/n000", "w0000", "a", "", 0, 0, 1))
        if kept:
            writer.add(made_call("w0000", "a", 0, 1))
        raise ZeroDivisionError
    assert path.exists() == kept


def test_against_time(tmp_path: Path) -> None:
    """An edge that time contradicts is refused."""
    calls = [made_call("w0000", "a", 0, 5), made_call("w0000", "b", 1, 2)]
    path = tmp_path / "trace.jsonl"
    save(made_trace([made_workflow(calls, {"barrier": [("a", "b")]})]), path)
    with pytest.raises(RejouleError, match="began before"):
        load(path)


@pytest.mark.parametrize(
    ("streamed", "message"),
    [
        (("b", "a", 1), "w0000/a began before w0000/b did"),
        (("a", "b", 0), "once 0 tokens of w0000/a had come"),
        (("t", "b", 1), "w0000/t, which is no call"),
    ],
)
def test_impossible_streamed_edges(tmp_path: Path, streamed: tuple[str, str, int], message: str) -> None:
    """What began on part of an answer did so after it was asked for, and on some of it."""
    vertices: list[Call | ToolCall] = [made_call("w0000", "a", 0, 5), made_call("w0000", "b", 1, 2)]
    vertices.append(made_tool("w0000", "t", 0, 1))
    path = tmp_path / "trace.jsonl"
    save(made_trace([made_workflow(vertices, {}, streamed=[streamed])]), path)
    with pytest.raises(RejouleError, match=message):
        load(path)


def test_too_new(tmp_path: Path) -> None:
    """A file of a later format asks for an update."""
    path = tmp_path / "trace.jsonl"
    save(random_trace(1), path)
    header, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(orjson.dumps({**orjson.loads(header), "format_version": 99}) + b"\n" + rest)
    with pytest.raises(RejouleError, match=r"version 99.*please update"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b'{"a":1}\n', b"[1]\n", bytes(range(256))])
def test_no_trace(tmp_path: Path, content: bytes) -> None:
    """A file that is no trace is called that."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(RejouleError, match="is not a ReJoule trace"):
        load(path)


def test_missing_and_unwritable(tmp_path: Path) -> None:
    """A missing file and an unwritable folder are one clear error each."""
    with pytest.raises(RejouleError, match="does not exist"):
        load(tmp_path / "none.jsonl")
    with pytest.raises(RejouleError, match="cannot write"), TraceWriter(tmp_path / "no" / "x", random_trace(1).header):
        pass


def test_full_disk() -> None:
    """A disk without room is named, with what to do."""
    with (
        pytest.raises(RejouleError, match=r"No space left.*make room"),
        TraceWriter(Path("/dev/full"), random_trace(1).header),
    ):
        pass


KILLED = """
import sys, time
from dataclasses import fields
from pathlib import Path
from rejoule.traces.store import KINDS, TraceWriter
from rejoule.traces.testing import random_trace
trace = random_trace(5, workflows=400)
with TraceWriter(Path(sys.argv[1]), trace.header) as writer:
    for i, workflow in enumerate(trace.workflows):
        for call in workflow.calls:
            writer.add(call)
        writer.close(workflow)
        print(i, flush=True)
        time.sleep(0.001)
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_kill(tmp_path: Path, suffix: str) -> None:
    """A recording that is killed leaves every workflow that had been closed."""
    path = tmp_path / f"trace{suffix}"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        closed = [int(writer.stdout.readline()) for _ in range(50)][-1]
        os.kill(writer.pid, signal.SIGKILL)
    with pytest.raises(RejouleError, match="--salvage"):
        load(path)
    kept = load(path, salvage=True).workflows
    assert len(kept) > closed
    assert kept == random_trace(5, workflows=400).workflows[: len(kept)]


def test_import_is_light() -> None:
    """Importing the package brings neither LangGraph nor networkx nor numpy."""
    code = "import rejoule.traces, rejoule.traces.store, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"langgraph", "networkx", "numpy", "langchain_core"} & set(loaded)


STORED = Path(__file__).parent / "stored"


@pytest.mark.parametrize("path", sorted(STORED.glob("v*.jsonl")), ids=lambda path: str(path.stem))
def test_stored_versions(path: Path) -> None:
    """A file of every format version so far is still read."""
    assert [len(w.calls) for w in load(path).workflows] == [4, 6, 3]


@given(said=st.lists(st.sampled_from([None, True, False]), min_size=3, max_size=3))
@settings(max_examples=10, deadline=None)
def test_success_is_kept_and_costs_nothing_where_nobody_said(
    tmp_path_factory: pytest.TempPathFactory, said: list[bool | None]
) -> None:
    """It is part of what a trace's digest is of; without it, digests are what they were before there was any."""
    plain, path = random_trace(1), tmp_path_factory.mktemp("t") / "t.jsonl"
    odd = {"a": 1, "success": None, "size": None, "digest": None}
    plain = replace(plain, workflows=tuple(replace(w, input=odd) for w in plain.workflows))
    told = replace(plain, workflows=tuple(replace(w, success=s) for w, s in zip(plain.workflows, said, strict=True)))
    save(told, path)
    assert load(path) == told and not load(path).edited
    assert (trace_digest(told) == trace_digest(plain)) == (said == [None] * 3)
    assert trace_digest(plain) == "e46be3e05f825c6b18901df9444b0fd368b0a054d461b64160f5a3078bd5ed2b"


def test_documented() -> None:
    """Every field of every record is described."""
    page = (Path(__file__).parents[2] / "docs" / "trace-format.md").read_text()
    for name, kind in KINDS.items():
        for field in fields(kind):
            assert f"`{field.name}`" in page or f'"{field.name}"' in page, f"{name}.{field.name}"

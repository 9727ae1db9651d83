"""Answers and clients that are not the textbook's."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

import orjson
import pytest
from langgraph.graph import START, StateGraph
from openai import OpenAI

import rejoule
from rejoule.graphs.capture.answer import Answer, parse
from rejoule.traces.store import load


class State(TypedDict, total=False):
    outline: str
    page: str


def spoken(prompt: str) -> str:
    """Reads a stream up to its end's reason, and lets go of it there."""
    words = []
    client = OpenAI()
    stream = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": prompt}], stream=True, max_tokens=60
    )
    for chunk in stream:
        words.append(chunk.choices[0].delta.content or "")
        if chunk.choices[0].finish_reason is not None:
            break
    stream.close()
    client.close()
    return "".join(words)


def test_a_stream_that_is_left_at_its_end_is_whole(tmp_path: Path) -> None:
    """A client that stops at finish_reason got its answer: the call is whole, ends there, and its edges stay."""
    graph: StateGraph[State] = StateGraph(State)
    graph.add_node("outline", lambda state: {"outline": spoken("An outline.")})
    graph.add_node("page", lambda state: {"page": spoken(f"A page of:\n{state['outline']}")})
    graph.add_edge(START, "outline")
    graph.add_edge("outline", "page")
    trace = rejoule.record(graph, [{}])
    (flow,) = trace.workflows
    first, second = flow.calls
    assert first.succeeded and second.succeeded
    assert first.end_ns <= second.submit_ns
    assert {(e.source, e.target) for e in flow.edges} == {(first.id, second.id)}
    assert first.token_ids is not None and first.output_tokens == len(first.token_ids)
    (run,) = rejoule.replay_traces(trace, tmp_path / "runs", progress=False).runs
    assert run.certificate.exact_calls == 2


def streamed(*events: bytes, status: int = 200) -> Answer:
    body = b"".join(b"data: " + event + b"\n\n" for event in events)
    return parse([(7, body)], status=status, streamed=True)


def event(text: bytes, finish: bytes = b"null") -> bytes:
    return b'{"choices":[{"index":0,"delta":{"content":"' + text + b'"},"finish_reason":' + finish + b"}]}"


def test_a_stream_without_done_is_whole() -> None:
    """Not all servers say [DONE]; one that said why it stopped has ended."""
    assert streamed(event(b"hi", b'"stop"')).whole
    assert not streamed(event(b"hi")).whole


def test_halves_of_a_character_are_joined() -> None:
    """A character that comes in two halves is whole in the text, and a half alone is replaced."""
    assert streamed(event(b"\\ud83d"), event(b"\\ude00", b'"stop"')).text == "\U0001f600"
    assert streamed(event(b"\\ud83d", b'"stop"')).text == "�"


@pytest.mark.parametrize("usage", [{"prompt_tokens": v} for v in (10.5, -5, "10", 10**30, True, [1], None)])
def test_counts_that_are_none_are_unknown(usage: dict[str, object]) -> None:
    """What cannot be a number of tokens is not kept, and nothing else is lost."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "ok"}}
    body = {"choices": [choice], "usage": {**usage, "completion_tokens": 2}}
    text = orjson.dumps(body) if usage["prompt_tokens"] != 10**30 else str(body).replace("'", '"').encode()
    found = parse([(7, text)], status=200, streamed=False)
    assert (found.error, found.text, found.prompt_tokens, found.output_tokens) == (None, "ok", None, 2)


@pytest.mark.parametrize("part", ["finish_reason", "content"])
def test_texts_that_are_none_are_unknown(part: str) -> None:
    """A reason or a content that is no text is left out."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "ok", "tool_calls": [7]}}
    body = choice | {"finish_reason": 7} if part == "finish_reason" else choice | {"message": {"content": 7}}
    found = parse([(7, orjson.dumps({"choices": [body]}))], status=200, streamed=False)
    assert (found.error, found.tool_calls) == (None, ())
    assert (found.finish_reason if part == "finish_reason" else found.text) is None


GRAPH = """
from typing import TypedDict
from langgraph.graph import StateGraph, START
from openai import OpenAI
class S(TypedDict): x: int
def ask(s):
    OpenAI().chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    import time; time.sleep(3600)
b = StateGraph(S); b.add_node("ask", ask); b.add_edge(START, "ask"); graph = b.compile()
"""


def test_ctrl_c_does_not_wait_for_synchronous_nodes(tmp_path: Path) -> None:
    """A recording whose node waits in its own thread ends at the first Ctrl-C, its trace closed."""
    (tmp_path / "g.py").write_text(GRAPH)
    words = ["record", "g.py:graph", "-o", "t.jsonl", "--input", '{"x": 1}']
    command = [sys.executable, "-m", "rejoule.replay", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "t.jsonl").exists() or b'"record":"call"' not in (tmp_path / "t.jsonl").read_bytes():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "interrupted; t.jsonl holds 0 workflows that came to an end, and 1 as far as they were" in err
    assert load(tmp_path / "t.jsonl").workflows[0].status == "interrupted"

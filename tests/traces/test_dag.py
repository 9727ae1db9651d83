"""A workflow as a graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.traces import dag
from rejoule.traces.model import Call, ToolCall, Workflow
from rejoule.traces.testing import MS, made_call, made_tool, made_workflow, random_trace


def diamond() -> Workflow:
    vertices: list[Call | ToolCall] = [
        made_call("w0000", "a", 0, 10),
        made_call("w0000", "b", 10, 50),
        made_tool("w0000", "t", 12, 20),
        made_call("w0000", "d", 55, 60),
    ]
    return made_workflow(
        vertices, {"barrier": [("a", "b"), ("a", "t"), ("b", "d"), ("t", "d")], "trigger": [("a", "b")]}
    )


def test_diamond() -> None:
    """Ready set, critical path, slack, depth, fan-out and width of a fork that joins."""
    graph = dag.graph(diamond())
    assert dag.ready(graph, []) == ["w0000/a"]
    assert set(dag.ready(graph, ["w0000/a"])) == {"w0000/b", "w0000/t"}
    assert dag.critical_path(graph) == ["w0000/a", "w0000/b", "w0000/d"]
    slack = {name.split("/")[1]: round(value, 6) for name, value in dag.slack(graph).items()}
    assert slack == {"a": 0, "b": 0, "t": 0.030, "d": 0}
    assert {n.split("/")[1]: d for n, d in dag.depth(graph).items()} == {"a": 0, "b": 1, "t": 1, "d": 2}
    assert dag.fan_out(graph)["w0000/a"] == 2
    assert dag.width(graph) == 2


def test_gaps() -> None:
    """A gap is the client's own time, whichever edge set is followed."""
    gaps = diamond().gaps_ns
    assert [gaps[f"w0000/{v}"] for v in "abtd"] == [0, 0, 2_000_000, 5_000_000]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_critical_path_is_the_recorded_time(seed: int) -> None:
    """Where every start is explained by an edge, the critical path takes as long as the workflow did."""
    for workflow in random_trace(seed).workflows:
        graph = dag.graph(workflow)
        path = dag.critical_path(graph)
        length = sum(dag.recorded_s(workflow.vertices[v]) + graph.nodes[v]["gap_s"] for v in path)
        assert abs(length - (workflow.end_ns - workflow.arrival_ns) / 1e9) < 1e-6
        assert min(dag.slack(graph).values()) > -1e-6


def overlapping() -> Workflow:
    """``a`` answers for 40 ms; ``b`` began when half of it had come, 5 ms later, and ended after it."""
    source = replace(
        made_call("w0000", "a", 0, 40, output_tokens=4), first_token_ns=10 * MS, chunk_ns=(10 * MS, 20 * MS, 30 * MS)
    )
    return made_workflow([source, made_call("w0000", "b", 25, 65)], {}, streamed=[("a", "b", 2)])


def test_part_of_an_answer() -> None:
    """What began on part of an answer overlaps it, on the critical path, too, and lies beside it."""
    workflow = overlapping()
    graph = dag.graph(workflow)
    path = dag.critical_path(graph)
    assert path == ["w0000/a", "w0000/b"]
    assert abs(dag.length_s(graph, path) - 0.065) < 1e-9
    assert dag.slack(graph)["w0000/a"] == 0
    assert dag.depth(graph) == {"w0000/a": 0, "w0000/b": 1}
    assert dag.width(graph) == 2


def test_gap_after_part_of_an_answer() -> None:
    """Its gap counts from the arrival of the last token that it began on."""
    assert overlapping().gaps_ns["w0000/b"] == 5 * MS


@pytest.mark.parametrize(
    ("known", "tokens", "at_ms"),
    [
        # A chunk a token, then one with the reason and one with the counts.
        ({"token_ids": (1, 2, 3), "chunk_ns": (10, 20, 30, 31, 31)}, (1, 2, 3, 9), (10, 20, 30, 30)),
        # Two tokens a chunk.
        ({"token_ids": (1, 2, 3, 4, 5, 6), "chunk_ns": (10, 20, 30), "pieces": 3}, (1, 2, 3, 6), (10, 10, 20, 30)),
        # A chunk with the role came first.
        ({"token_ids": (1, 2), "chunk_ns": (4, 10, 20)}, (1, 2), (10, 20)),
        # Nobody counted.
        ({"token_ids": None, "output_tokens": None, "chunk_ns": (10, 20), "pieces": 2}, (1, 2), (10, 20)),
        # No chunks: evenly from the first token to the end.
        ({"token_ids": (1, 2, 3)}, (1, 2, 3), (10, 20, 30)),
    ],
)
def test_when_tokens_came(known: dict[str, Any], tokens: tuple[int, ...], at_ms: tuple[int, ...]) -> None:
    """Tokens came with the chunks that carried output, each with equally many."""
    known = {**known, "chunk_ns": tuple(ms * MS for ms in known.get("chunk_ns", ()))}
    call = replace(made_call("w0000", "a", 0, 30), first_token_ns=10 * MS, **known)
    assert tuple(call.token_ns(n) // MS for n in tokens) == at_ms

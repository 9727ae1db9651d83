"""A workflow as a graph."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.traces import dag
from rejoule.traces.model import Call, ToolCall, Workflow
from rejoule.traces.testing import made_call, made_tool, made_workflow, random_trace


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

"""A workflow as a graph: what waits for what, what may go first, and where time can be lost without harm."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from rejoule.traces.model import EdgeSet, Vertex, Workflow

if TYPE_CHECKING:
    import networkx as nx

    Dag = nx.DiGraph[str]

Duration = Callable[[Vertex], float]


def recorded_s(vertex: Vertex) -> float:
    """How long a call or tool call took when it was recorded, in seconds."""
    return (vertex.end_ns - vertex.start_ns) / 1e9


def graph(workflow: Workflow, edge_set: EdgeSet = "barrier") -> Dag:
    """Calls and tool calls with their edges; each node carries its ``vertex`` and ``gap_s``, the client's own time.

    Each edge carries the ``share`` of its source's time after which its target may begin: 1, but less where that began
    on part of an answer.
    """
    import networkx as nx

    dag: Dag = nx.DiGraph()
    for name, vertex in workflow.vertices.items():
        dag.add_node(name, vertex=vertex, gap_s=workflow.gaps_ns[name] / 1e9)
    for target, sources in workflow.predecessors(edge_set).items():
        dag.add_edges_from(((source, target) for source in sources), share=1.0)
    for target, parts in workflow.streamed.items():
        for source, tokens in parts.items():
            call = workflow.vertices[source]
            share = (workflow.token_ns(source, tokens) - call.start_ns) / max(1, call.end_ns - call.start_ns)
            dag.add_edge(source, target, share=max(share, dag.edges.get((source, target), {}).get("share", 0.0)))
    return dag


def ready(dag: Dag, finished: Collection[str]) -> list[str]:
    """Vertices that may begin: not finished, and all that they wait for is, even where part of it would do."""
    done = set(finished)
    return [v for v in dag if v not in done and all(p in done for p in dag.predecessors(v))]


def critical_path(dag: Dag, duration: Duration = recorded_s) -> list[str]:
    """The chain of vertices that takes longest, gaps included; ties go to the first in the graph's order."""
    if not dag:
        return []
    finish, via = _earliest_finish(dag, duration)
    order = {v: i for i, v in enumerate(dag)}
    last: str | None = max(finish, key=lambda v: (finish[v], -order[v]))
    path: list[str] = []
    while last is not None:
        path.append(last)
        last = via[last]
    return path[::-1]


def length_s(dag: Dag, path: Sequence[str], duration: Duration = recorded_s) -> float:
    """How long a chain of vertices takes, gaps included, in seconds."""
    alone_s = (duration(dag.nodes[v]["vertex"]) + float(dag.nodes[v]["gap_s"]) for v in path)
    return sum(alone_s) - sum(_rest_s(dag, source, target, duration) for source, target in pairwise(path))


def slack(dag: Dag, duration: Duration = recorded_s) -> dict[str, float]:
    """For every vertex, the seconds by which it may be late without delaying the workflow's end."""
    import networkx as nx

    finish, _ = _earliest_finish(dag, duration)
    whole = max(finish.values(), default=0.0)
    latest: dict[str, float] = {}
    for v in reversed(list(nx.topological_sort(dag))):
        needed = [
            latest[s] - duration(dag.nodes[s]["vertex"]) - dag.nodes[s]["gap_s"] + _rest_s(dag, v, s, duration)
            for s in dag.successors(v)
        ]
        latest[v] = min([whole, *needed])
    return {v: latest[v] - finish[v] for v in dag}


def depth(dag: Dag) -> dict[str, int]:
    """For every vertex, the number of vertices before it on the longest chain that leads to it."""
    return _depth(dag, lambda share: 1)


def fan_out(dag: Dag) -> dict[str, int]:
    """For every vertex, how many wait for it directly."""
    return {v: dag.out_degree(v) for v in dag}


def width(dag: Dag) -> int:
    """Most vertices at one depth: how many calls the workflow can have in flight.

    What began on part of an answer is beside the call that gave it.
    """
    levels = list(_depth(dag, lambda share: int(share == 1)).values())
    return max((levels.count(level) for level in set(levels)), default=0)


def _depth(dag: Dag, step: Callable[[float], int]) -> dict[str, int]:
    import networkx as nx

    found: dict[str, int] = {}
    for v in nx.topological_sort(dag):
        found[v] = max((found[p] + step(dag.edges[p, v]["share"]) for p in dag.predecessors(v)), default=0)
    return found


def _earliest_finish(dag: Dag, duration: Duration) -> tuple[dict[str, float], dict[str, str | None]]:
    import networkx as nx

    finish: dict[str, float] = {}
    via: dict[str, str | None] = {}
    for v in nx.lexicographical_topological_sort(dag):
        there = {p: finish[p] - _rest_s(dag, p, v, duration) for p in dag.predecessors(v)}
        via[v] = max(there, key=lambda p: there[p], default=None)
        start = max(there.values(), default=0.0)
        finish[v] = start + dag.nodes[v]["gap_s"] + duration(dag.nodes[v]["vertex"])
    return finish, via


def _rest_s(dag: Dag, source: str, target: str, duration: Duration) -> float:
    """How much of its source's time is still to come where an edge lets its target begin."""
    share: float = dag.edges[source, target]["share"]
    vertex: Vertex = dag.nodes[source]["vertex"]
    return (1.0 - share) * duration(vertex)

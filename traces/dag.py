"""A workflow as a graph: what waits for what, what may go first, and where time can be lost without harm."""

from __future__ import annotations

from collections.abc import Callable, Collection
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
    """Calls and tool calls with their edges; each node carries its ``vertex`` and ``gap_s``, the client's own time."""
    import networkx as nx

    dag: Dag = nx.DiGraph()
    for name, vertex in workflow.vertices.items():
        dag.add_node(name, vertex=vertex, gap_s=workflow.gaps_ns[name] / 1e9)
    for target, sources in workflow.predecessors(edge_set).items():
        dag.add_edges_from((source, target) for source in sources)
    return dag


def ready(dag: Dag, finished: Collection[str]) -> list[str]:
    """Vertices that may begin: not finished, and all that they wait for is."""
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


def slack(dag: Dag, duration: Duration = recorded_s) -> dict[str, float]:
    """For every vertex, the seconds by which it may be late without delaying the workflow's end."""
    import networkx as nx

    finish, _ = _earliest_finish(dag, duration)
    whole = max(finish.values(), default=0.0)
    latest: dict[str, float] = {}
    for v in reversed(list(nx.topological_sort(dag))):
        latest[v] = min(
            (latest[s] - duration(dag.nodes[s]["vertex"]) - dag.nodes[s]["gap_s"] for s in dag.successors(v)),
            default=whole,
        )
    return {v: latest[v] - finish[v] for v in dag}


def depth(dag: Dag) -> dict[str, int]:
    """For every vertex, the number of vertices before it on the longest chain that leads to it."""
    import networkx as nx

    found: dict[str, int] = {}
    for v in nx.topological_sort(dag):
        found[v] = max((found[p] + 1 for p in dag.predecessors(v)), default=0)
    return found


def fan_out(dag: Dag) -> dict[str, int]:
    """For every vertex, how many wait for it directly."""
    return {v: dag.out_degree(v) for v in dag}


def width(dag: Dag) -> int:
    """Most vertices at one depth: how many calls the workflow can have in flight."""
    levels = list(depth(dag).values())
    return max((levels.count(level) for level in set(levels)), default=0)


def _earliest_finish(dag: Dag, duration: Duration) -> tuple[dict[str, float], dict[str, str | None]]:
    import networkx as nx

    finish: dict[str, float] = {}
    via: dict[str, str | None] = {}
    for v in nx.lexicographical_topological_sort(dag):
        via[v] = max(dag.predecessors(v), key=lambda p: finish[p], default=None)
        before = via[v]
        start = finish[before] if before is not None else 0.0
        finish[v] = start + dag.nodes[v]["gap_s"] + duration(dag.nodes[v]["vertex"])
    return finish, via

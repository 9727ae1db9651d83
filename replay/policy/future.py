"""What came after each call of a recorded workflow. Only knowledge may look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rejoule.replay.exactness.requests import scaled_length
from rejoule.replay.policy.interface import Outlook
from rejoule.traces.dag import graph
from rejoule.traces.model import Call, EdgeSet, Vertex, Workflow
from rejoule.traces.work import left_out, output_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rejoule.traces.dag import Dag


def is_sent(vertex: Vertex) -> bool:
    """Whether a replay sends it: a call that is not left out."""
    return isinstance(vertex, Call) and left_out(vertex) is None


def answer_tokens(call: Call, output_scale: float) -> int:
    """How long a call's answer is in a replay."""
    return scaled_length(output_tokens(call), output_scale)


def recorded_outlooks(
    workflow: Workflow, edge_set: EdgeSet, *, time_scale: float, output_scale: float
) -> dict[str, Outlook]:
    """The outlook of every call that a replay sends, as it was recorded."""
    import networkx as nx

    dag = graph(workflow, edge_set)
    order: list[str] = list(nx.topological_sort(dag))
    vertices = workflow.vertices
    gap_s = {v: dag.nodes[v]["gap_s"] * time_scale for v in order}
    took_s, tokens = dict[str, float](), dict[str, float]()
    for v in order:
        vertex = vertices[v]
        sent = is_sent(vertex)
        took_s[v] = (vertex.end_ns - vertex.start_ns) / 1e9 * (output_scale if sent else time_scale)
        tokens[v] = answer_tokens(vertex, output_scale) if sent and isinstance(vertex, Call) else 0.0
    calls = {v: float(is_sent(vertices[v])) for v in order}
    ends_s = _ends(dag, order, took_s, gap_s)
    whole_s = max(ends_s.values(), default=0.0)
    nothing = dict.fromkeys(order, 0.0)
    path_s, path_tokens = _longest(dag, order, took_s, gap_s), _longest(dag, order, tokens, nothing)
    path_calls = _longest(dag, order, calls, nothing)
    after, before = _nearest_calls(dag, reversed(order), calls, forward=True), _nearest_calls(dag, order, calls)
    grouped = _grouped([v for v in order if calls[v]], before)
    rest_tokens, rest_calls = 0.0, 0.0
    found: dict[str, Outlook] = {}
    for v in reversed(vertices):
        if not calls[v]:
            continue
        rest_tokens, rest_calls = rest_tokens + tokens[v], rest_calls + 1
        needed_s = [ends_s[s] - took_s[s] - gap_s[s] + _rest(dag, v, s, took_s) for s in dag.successors(v)]
        found[v] = Outlook(
            output_tokens=tokens[v],
            call_s=took_s[v],
            after_s=max(0.0, min((ends_s[s] - took_s[s] for s in after[v]), default=0.0) - ends_s[v]),
            path_tokens=path_tokens[v],
            path_s=path_s[v],
            path_calls=path_calls[v],
            rest_tokens=rest_tokens,
            rest_calls=rest_calls,
            workflow_s=whole_s,
            slack_s=max(0.0, whole_s - (ends_s[v] - took_s[v] + path_s[v])),
            sibling_slack_s=max(0.0, min(needed_s, default=whole_s) - ends_s[v]),
            fan_out=float(len(after[v])),
            joined=float(max((len(before[s]) for s in after[v]), default=1)),
            grouped=float(v in grouped),
            last=float(not after[v]),
            basis="recorded",
        )
    return found


def _ends(dag: Dag, order: list[str], took_s: Mapping[str, float], gap_s: Mapping[str, float]) -> dict[str, float]:
    """When each vertex ends at the earliest, from its workflow's arrival."""
    found: dict[str, float] = {}
    for v in order:
        ready_s = max((found[p] - _rest(dag, p, v, took_s) for p in dag.predecessors(v)), default=0.0)
        found[v] = ready_s + gap_s[v] + took_s[v]
    return found


def _longest(dag: Dag, order: list[str], weight: Mapping[str, float], gap: Mapping[str, float]) -> dict[str, float]:
    """The greatest weight of a chain that begins with each vertex, gaps between its vertices included."""
    found: dict[str, float] = {}
    for v in reversed(order):
        after = (weight[v] - _rest(dag, v, s, weight) + gap[s] + found[s] for s in dag.successors(v))
        found[v] = max([weight[v], *after])
    return found


def _nearest_calls(
    dag: Dag, order: Iterable[str], calls: Mapping[str, float], forward: bool = False
) -> dict[str, set[str]]:
    """The calls next to each vertex with nothing but tools between them: those after it, or before."""
    found: dict[str, set[str]] = {}
    for v in order:
        beside = dag.successors(v) if forward else dag.predecessors(v)
        found[v] = set().union(*({b} if calls[b] else found[b] for b in beside))
    return found


def _grouped(calls: Sequence[str], before: Mapping[str, set[str]]) -> set[str]:
    """The calls, in topological order, that a later call waits for beside others which do not follow from them."""
    bit = {v: 1 << i for i, v in enumerate(calls)}
    behind = dict[str, int]()
    found = 0
    for v in calls:
        earlier, alike, behind_all = 0, -1, 0
        for p in before[v]:
            behind_all |= behind[p]
        for p in before[v]:
            if not bit[p] & behind_all:
                earlier, alike = earlier | behind[p] | bit[p], alike & (behind[p] | bit[p])
        found |= earlier & ~alike
        behind[v] = earlier
    return {v for v in calls if found & bit[v]}


def _rest(dag: Dag, source: str, target: str, weight: Mapping[str, float]) -> float:
    """What of a source's weight is still to come where an edge lets its target begin."""
    return (1.0 - float(dag.edges[source, target]["share"])) * weight[source]

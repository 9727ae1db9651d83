"""Edges between the calls and tool calls of a workflow: pure, from nested spans of time and the links between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal

from rejoule.traces.model import Edge

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a workflow inside another one."""

    id: str
    parent: str | None
    start_ns: int
    end_ns: int
    kind: Literal["vertex", "graph", "task"]
    """`vertex`: a call or tool call. `graph`: ordered inside by links. `task`: by what ended before what began."""


def edges(spans: Iterable[Span], barrier: Iterable[Pair], trigger: Iterable[Pair]) -> tuple[Edge, ...]:
    """Both edge sets, each transitively reduced; spans without a parent are ordered by time."""
    tree = {span.id: span for span in spans}
    observed = _observed(tree)
    by_barrier = _reduced(tree, observed, barrier)
    by_trigger = _reduced(tree, observed, trigger)
    found = []
    for source, target in sorted(by_barrier | by_trigger, key=lambda pair: _order(tree, pair)):
        pair = source, target
        both = pair in by_barrier and pair in by_trigger
        if both and _share_a_task(tree, source, target):
            found.append(Edge(source, target, "observed"))
            continue
        if pair in by_barrier:
            found.append(Edge(source, target, "barrier"))
        if pair in by_trigger:
            found.append(Edge(source, target, "trigger"))
    return tuple(found)


def _order(tree: Mapping[str, Span], pair: Pair) -> tuple[int, str, int, str]:
    source, target = tree[pair[0]], tree[pair[1]]
    return target.start_ns, target.id, source.start_ns, source.id


def _share_a_task(tree: Mapping[str, Span], source: str, target: str) -> bool:
    """Whether the innermost span around both is one that orders nothing by itself."""
    around = {span.id for span in _around(tree, source)}
    return next((span.kind == "task" for span in _around(tree, target) if span.id in around), False)


def _around(tree: Mapping[str, Span], id: str) -> Iterable[Span]:
    parent = tree[id].parent
    while parent is not None:
        yield tree[parent]
        parent = tree[parent].parent


def _observed(tree: Mapping[str, Span]) -> list[Pair]:
    """Pairs side by side in one task, or in no span at all, of which one ended before the other began."""
    inside: dict[str | None, list[Span]] = defaultdict(list)
    for span in tree.values():
        if span.parent is None or tree[span.parent].kind == "task":
            inside[span.parent].append(span)
    return [
        (a.id, b.id)
        for children in inside.values()
        for a in children
        for b in children
        if a is not b and a.end_ns <= b.start_ns and (a.start_ns, a.end_ns, a.id) < (b.start_ns, b.end_ns, b.id)
    ]


def _reduced(tree: Mapping[str, Span], observed: Iterable[Pair], links: Iterable[Pair]) -> set[Pair]:
    """The fewest pairs of vertices that imply all of the order."""
    first = {span.id: span.id if span.kind == "vertex" else f"in {span.id}" for span in tree.values()}
    last = {span.id: span.id if span.kind == "vertex" else f"out {span.id}" for span in tree.values()}
    waits_for: dict[str, set[str]] = defaultdict(set)
    for span in tree.values():
        if span.kind != "vertex":
            waits_for[last[span.id]].add(first[span.id])
        ready = waits_for[first[span.id]]
        if span.parent is not None:
            if span.start_ns >= tree[span.parent].start_ns:
                ready.add(first[span.parent])
            # Work that a node left running outlives it, and nothing waits for that.
            if span.end_ns <= tree[span.parent].end_ns:
                waits_for[last[span.parent]].add(last[span.id])
    for source, target in [*observed, *links]:
        if tree[source].end_ns <= tree[target].start_ns:
            waits_for[first[target]].add(last[source])
    # Everything before a point of the order, as bits: a vertex's bit is its place in one topological order, so the
    # highest bit among a vertex's ancestors is always a direct predecessor.
    before: dict[str, int] = {}
    vertices: list[str] = []
    reduced: set[Pair] = set()
    bit: dict[str, int] = {}
    for point in TopologicalSorter(waits_for).static_order():
        ancestors = 0
        for earlier in waits_for.get(point, ()):
            ancestors |= before[earlier] | bit.get(earlier, 0)
        before[point] = ancestors
        if point in tree:
            bit[point] = 1 << len(vertices)
            vertices.append(point)
            while ancestors:
                source = vertices[ancestors.bit_length() - 1]
                reduced.add((source, point))
                ancestors &= ~(before[source] | bit[source])
    return reduced

"""Edges between the calls and tool calls of a workflow: pure, from nested spans of time and the links between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal

from rejoule.traces.model import Edge

Pair = tuple[str, str]
Start = tuple[str, str, int]
"""Source, target, and the tokens of the source's answer on which the target began."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a workflow inside another one."""

    id: str
    parent: str | None
    start_ns: int
    end_ns: int
    kind: Literal["vertex", "graph", "task"]
    """`vertex`: a call or tool call. `graph`: ordered inside by links. `task`: by what ended before what began."""


def edges(
    spans: Iterable[Span],
    barrier: Iterable[Pair],
    trigger: Iterable[Pair],
    streamed: Iterable[Start] = (),
    left: Iterable[Start] = (),
) -> tuple[Edge, ...]:
    """Both edge sets, each transitively reduced; spans without a parent are ordered by time.

    A streamed edge takes the place of what its two ends' times say, and is in both sets, so it is kept where one of
    them does not imply it. ``left`` has the spans that ended on part of an answer: what follows them begins on that.
    """
    tree = {span.id: span for span in spans}
    begun = [start for start in streamed if tree[start[0]].start_ns < tree[start[1]].start_ns]
    observed = [pair for pair in _observed(tree) if pair not in {start[:2] for start in begun}]
    ended = [start for start in left if tree[start[0]].end_ns > tree[start[1]].end_ns]
    by_barrier, parts_by_barrier = _reduced(tree, observed, barrier, begun, ended)
    by_trigger, parts_by_trigger = _reduced(tree, observed, trigger, begun, ended)
    found = [Edge(source, target, "streamed", tokens) for source, target, tokens in parts_by_barrier | parts_by_trigger]
    for source, target in by_barrier | by_trigger:
        pair = source, target
        both = pair in by_barrier and pair in by_trigger
        if both and _share_a_task(tree, source, target):
            found.append(Edge(source, target, "observed"))
            continue
        if pair in by_barrier:
            found.append(Edge(source, target, "barrier"))
        if pair in by_trigger:
            found.append(Edge(source, target, "trigger"))
    return tuple(sorted(found, key=lambda edge: (*_order(tree, (edge.source, edge.target)), edge.kind)))


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


def _reduced(
    tree: Mapping[str, Span],
    observed: Iterable[Pair],
    links: Iterable[Pair],
    begun: Iterable[Start],
    ended: Iterable[Start],
) -> tuple[set[Pair], set[Start]]:
    """The fewest pairs of vertices that imply all of the order, and the fewest starts on part of an answer."""
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
    starts_on = [(source, first[target], tokens) for source, target, tokens in begun]
    part_of = _parts(waits_for, [*starts_on, *((source, last[target], tokens) for source, target, tokens in ended)])
    # Everything before a point of the order, as bits: a vertex's bit is its place in one topological order, so the
    # highest bit among a vertex's ancestors is always a direct predecessor.
    before: dict[str, int] = {}
    vertices: list[str] = []
    reduced: set[Pair] = set()
    starts: set[Start] = set()
    bit: dict[str, int] = {}
    for point in TopologicalSorter(waits_for).static_order():
        ancestors = 0
        for earlier in waits_for.get(point, ()):
            ancestors |= before[earlier] | bit.get(earlier, 0)
        before[point] = ancestors
        if point in tree or point in part_of:
            bit[point] = 1 << len(vertices)
            vertices.append(point)
            while ancestors:
                source = vertices[ancestors.bit_length() - 1]
                whole, target = part_of.get(source, (source, 0))[0], part_of.get(point, (point, 0))[0]
                if source in part_of and whole != target:
                    starts.add((whole, target, part_of[source][1]))
                elif whole != target:
                    reduced.add((whole, target))
                ancestors &= ~(before[source] | bit[source])
    return reduced, starts


def _parts(waits_for: dict[str, set[str]], waiting: Iterable[Start]) -> dict[str, tuple[str, int]]:
    """Puts a point into the order for every part of an answer that another point waits for, before the answer's end.

    Returned are the answer and the tokens of each.
    """
    found = {}
    for source, target, tokens in sorted(waiting, key=lambda start: start[2]):
        point = f"{tokens} of {source}"
        found[point] = source, tokens
        waits_for[target].add(point)
    last: dict[str, str] = {}
    for point, (source, _) in found.items():
        # What an answer waits for, its first part waits for, and every part for the one before.
        waits_for[point] |= {last[source]} if source in last else waits_for[source]
        last[source] = point
    for source, point in last.items():
        waits_for[source].add(point)
    return found

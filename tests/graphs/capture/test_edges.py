"""Edges from nested spans: both sets reduced, acyclic, and never against time."""

from __future__ import annotations

from typing import Literal

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from rejoule.graphs.capture.edges import Span, Start, edges
from rejoule.traces.model import Edge

Kind = Literal["vertex", "graph", "task"]
KINDS: tuple[Kind, ...] = ("vertex", "vertex", "graph", "task")


@st.composite
def forests(draw: st.DrawFn) -> list[Span]:
    """Spans inside spans; some outlive what is around them, as background work does."""
    spans: list[Span] = []
    for number in range(draw(st.integers(1, 14))):
        holders = [span.id for span in spans if span.kind != "vertex"]
        parent = draw(st.sampled_from([None, *holders]))
        kind: Kind = draw(st.sampled_from(KINDS))
        start = draw(st.integers(0, 30))
        spans.append(Span(f"s{number}", parent, start, start + draw(st.integers(1, 12)), kind))
    return spans


@given(forests(), st.data())
def test_edges_hold_in_any_forest(spans: list[Span], data: st.DataObject) -> None:
    """Whatever is linked, each set is its own reduction, and every source ends before its target begins."""
    ids = [span.id for span in spans]
    pairs = st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids)), max_size=8)
    found = edges(spans, data.draw(pairs), data.draw(pairs))
    tree = {span.id: span for span in spans}
    for edge_set in ("barrier", "trigger"):
        dag: nx.DiGraph[str] = nx.DiGraph([(e.source, e.target) for e in found if e.kind in (edge_set, "observed")])
        assert nx.is_directed_acyclic_graph(dag)
        assert set(dag.edges) == set(nx.transitive_reduction(dag).edges)
    for edge in found:
        assert tree[edge.source].kind == tree[edge.target].kind == "vertex"
        assert tree[edge.source].end_ns <= tree[edge.target].start_ns


@given(forests(), st.data())
def test_starts_on_part_of_an_answer(spans: list[Span], data: st.DataObject) -> None:
    """Every start on part of an answer is kept or implied by others, none twice, and never against what ended first."""
    tree = {span.id: span for span in spans}
    could = [(a.id, b.id) for a in spans for b in spans if a.kind == "vertex" and a.start_ns < b.start_ns]
    pairs = st.lists(st.tuples(st.sampled_from(list(tree)), st.sampled_from(list(tree))), max_size=5)
    starts = [] if not could else data.draw(st.lists(st.tuples(st.sampled_from(could), st.integers(1, 4)), max_size=6))
    begun = [(source, target, tokens) for (source, target), tokens in starts]
    found = edges(spans, data.draw(pairs), data.draw(pairs), begun)
    for edge_set in ("barrier", "trigger"):
        dag = with_parts([e for e in found if e.kind in (edge_set, "observed", "streamed")], begun)
        assert nx.is_directed_acyclic_graph(dag)
        for source, target, tokens in begun:
            if tree[target].kind == "vertex":
                entry = min(((target, k) for t, _, k in begun if t == target), default=(target, END))
                assert nx.has_path(dag, (source, tokens), entry)
    union = with_parts([e for e in found if e.kind in ("observed", "streamed")], begun)
    assert set(union.edges) == set(nx.transitive_reduction(union).edges)
    assert len(found) == len(set(found))


END = 1000
"""Of all tokens, and after them."""


def with_parts(found: list[Edge], begun: list[Start]) -> nx.DiGraph[tuple[str, int]]:
    """The order that edges imply: each answer's parts one after the other, and then its end."""
    parts: dict[str, list[int]] = {}
    for source, _, tokens in begun:
        parts[source] = sorted({*parts.get(source, ()), tokens})
    dag: nx.DiGraph[tuple[str, int]] = nx.DiGraph()
    for source, tokens_of in parts.items():
        nx.add_path(dag, [(source, tokens) for tokens in [*tokens_of, END]])
    for e in found:
        dag.add_edge((e.source, e.tokens or END), (e.target, parts.get(e.target, [END])[0]))
    return dag


def test_what_follows_a_task_begins_on_what_it_had_read() -> None:
    """A call that a task left half read orders what follows by that part, and by its end what waits for its end."""
    spans = [
        Span("g", None, 0, 100, "graph"),
        Span("a", "g", 0, 40, "task"),
        Span("b", "g", 50, 90, "task"),
        Span("c", "g", 50, 95, "task"),
        Span("a1", "a", 1, 55, "vertex"),
        Span("a2", "a", 5, 20, "vertex"),
        Span("b1", "b", 51, 52, "vertex"),
        Span("b2", "b", 60, 70, "vertex"),
        Span("c1", "c", 51, 60, "vertex"),
    ]
    found = edges(spans, [("a", "b"), ("a", "c")], [("a", "b")], left=[("a1", "a", 3), ("a2", "a", 1)])
    assert {(e.source, e.target, e.kind, e.tokens) for e in found} == {
        ("a1", "b1", "streamed", 3), ("a1", "c1", "streamed", 3), ("a2", "b1", "barrier", None),
        ("a2", "b1", "trigger", None), ("a2", "c1", "barrier", None), ("b1", "b2", "observed", None),
    }  # fmt: skip


def test_links_order_what_is_inside() -> None:
    """A link between two tasks orders all of the one's calls before all of the other's."""
    spans = [
        Span("g", None, 0, 100, "graph"),
        Span("a", "g", 0, 40, "task"),
        Span("b", "g", 50, 90, "task"),
        Span("a1", "a", 1, 10, "vertex"),
        Span("a2", "a", 5, 20, "vertex"),
        Span("a3", "a", 25, 30, "vertex"),
        Span("b1", "b", 60, 70, "vertex"),
    ]
    found = {(e.source, e.target, e.kind) for e in edges(spans, [("a", "b")], [])}
    assert found == {("a1", "a3", "observed"), ("a2", "a3", "observed"), ("a3", "b1", "barrier")}

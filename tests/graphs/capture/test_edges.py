"""Edges from nested spans: both sets reduced, acyclic, and never against time."""

from __future__ import annotations

from typing import Literal

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from rejoule.graphs.capture.edges import Span, edges

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

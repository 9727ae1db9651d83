"""Graphs that stream one answer, and what was seen of it."""

from __future__ import annotations

import threading
from typing import Any

from langgraph.graph import START, StateGraph

from rejoule.traces import Trace
from rejoule.traces.check import problems
from rejoule.traces.model import Header, Workflow

from .bench import Node, State, label

LONG = "one two three four five six seven eight GAP=0.02"
DONE: dict[str, list[str]] = {"parts": []}


def only(node: Node) -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}


def begun_on(workflow: Workflow) -> dict[tuple[str, str], int | None]:
    """Tokens of every streamed edge, by the labels of its ends."""
    named = {id: label(vertex) for id, vertex in workflow.vertices.items()}
    assert problems(Trace(Header("", ""), (workflow,))) == []
    return {(named[e.source], named[e.target]): e.tokens for e in workflow.edges if e.kind == "streamed"}


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "rejoule-reader"]

"""Records a graph from the witness, and holds what was recorded against what the witness saw."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

import httpx2
import networkx as nx
import orjson
from langchain_openai import ChatOpenAI
from langgraph.graph import StateGraph

from rejoule.graphs.capture import Recording, Rewrite, ServerInfo
from rejoule.traces.model import Call, Task, ToolCall, Workflow

from .witness import Witness

EdgeSet = Literal["barrier", "trigger"]
Node = Any
"""A function of a state, or a compiled graph; LangGraph's own type for it is a union of ten."""


class State(TypedDict):
    topic: str
    parts: Annotated[list[str], operator.add]


EMPTY: State = {"topic": "", "parts": []}


@dataclass
class Bench:
    """One model client, made before any recording, as a user's would be."""

    witness: Witness
    client: httpx2.Client
    async_client: httpx2.AsyncClient
    kept: list[Call | Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.llm = self.model()

    def model(self, **options: Any) -> ChatOpenAI:
        """A LangChain model that talks to the witness, in this test's own event loop."""
        clients = {"http_client": self.client, "http_async_client": self.async_client}
        return ChatOpenAI(**{"model": "tiny", "base_url": self.witness.base_url, **clients, **options})

    @property
    def server(self) -> ServerInfo:
        return ServerInfo(self.witness.base_url, models=("tiny",), owned_by=self.witness.owned_by)

    def recording(self, **options: Any) -> Recording:
        return Recording(Rewrite(self.server), keep=self.kept.append, **options)

    def say(self, text: str) -> Node:
        """A synchronous node that makes one call."""
        return lambda state: {"parts": [self.llm.invoke(text).text]}

    def asay(self, text: str) -> Node:
        """The same, asynchronous."""

        async def node(state: Any) -> dict[str, list[str]]:
            return {"parts": [(await self.llm.ainvoke(text)).text]}

        return node

    async def record(self, graph: Any, input: Any = EMPTY, **options: Any) -> Workflow:
        """Records one workflow, and checks it against the witness."""
        compiled = graph.compile() if isinstance(graph, StateGraph) else graph
        recording = self.recording()
        with recording.watching():
            workflow = await recording.workflow(compiled, input, **options)
        self.agree([workflow])
        return workflow

    def agree(self, workflows: Sequence[Workflow]) -> None:
        """Every call was seen once, and no edge contradicts either clock."""
        seen = {key[13:]: sighting for key, sighting in self.witness.by_request().items()}
        assert len(seen) == len(self.witness.sightings)
        assert set(seen) == {call.id.replace("/", "-") for workflow in workflows for call in workflow.calls}
        for workflow in workflows:
            calls = {call.id for call in workflow.calls}
            for edge_set in ("barrier", "trigger"):
                dag = graph_of(workflow, edge_set)
                assert nx.is_directed_acyclic_graph(dag)
                assert set(dag.edges) == set(nx.transitive_reduction(dag).edges)
            for edge in workflow.edges:
                source, target = workflow.vertices[edge.source], workflow.vertices[edge.target]
                if edge.kind == "streamed":
                    assert workflow.token_ns(source.id, edge.tokens or 0) <= target.start_ns
                    continue
                assert source.end_ns <= target.start_ns
                if {source.id, target.id} <= calls:
                    ended = seen[source.id.replace("/", "-")].ended
                    assert ended is None or ended <= seen[target.id.replace("/", "-")].begun


def graph_of(workflow: Workflow, edge_set: str) -> nx.DiGraph[str]:
    dag: nx.DiGraph[str] = nx.DiGraph()
    dag.add_nodes_from(workflow.vertices)
    dag.add_edges_from((e.source, e.target) for e in workflow.edges if e.kind in (edge_set, "observed"))
    return dag


def label(vertex: Call | ToolCall) -> str:
    """A call's prompt without the words that steer the witness; a tool call's name."""
    if isinstance(vertex, ToolCall):
        return vertex.name
    request: Mapping[str, Any] = vertex.request
    text = request["prompt"] if "prompt" in request else request["messages"][-1]["content"]
    return " ".join(word for word in str(text).split() if "=" not in word)


def edges(workflow: Workflow, edge_set: EdgeSet) -> list[tuple[str, str]]:
    """The edges of one set by the labels of their ends, sorted."""
    vertices = workflow.vertices
    found = [e for e in workflow.edges if e.kind in (edge_set, "observed")]
    return sorted((label(vertices[e.source]), label(vertices[e.target])) for e in found)


def kinds(workflow: Workflow) -> dict[tuple[str, str], set[str]]:
    """The kinds of every edge, by the labels of its ends."""
    found: dict[tuple[str, str], set[str]] = {}
    for e in workflow.edges:
        found.setdefault((label(workflow.vertices[e.source]), label(workflow.vertices[e.target])), set()).add(e.kind)
    return found


def as_bytes(workflow: Workflow) -> bytes:
    return orjson.dumps(workflow)

"""What a trace holds.

Every time is in nanoseconds on the recording machine's monotonic clock, counted from the start of the trace.
``None`` means that the server or the client did not say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

FORMAT_VERSION = 3

Endpoint = Literal["chat", "completions"]
EdgeKind = Literal["barrier", "trigger", "observed", "streamed"]
EdgeSet = Literal["barrier", "trigger"]
PartKind = Literal["static", "input", "quoted"]
WorkflowStatus = Literal["done", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Header:
    """What was recorded, with what, and against which server; never a key or an HTTP header."""

    graph: str
    """Name of a workload, or ``FILE.py:GRAPH``."""
    model: str
    server: Mapping[str, Any] = field(default_factory=dict)
    """What the server said of itself: ``owned_by``, ``version``, ``max_model_len``."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    recorded_at: str | None = None
    rejoule_version: str = ""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Task:
    """One execution of a node of a graph."""

    id: str
    workflow: str
    node: str
    """Path of node names from the root graph: ``research/answer`` is ``answer`` in the subgraph ``research``."""
    graph_instance: str
    """Which execution of a (sub)graph it belongs to; empty for the root graph."""
    step: int
    """LangGraph's superstep in that graph instance."""
    start_ns: int
    end_ns: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PromptPart:
    """A stretch of one message's text and where it came from."""

    kind: PartKind
    message: int
    """Index into the request's messages; 0 for a plain prompt."""
    start: int
    end: int
    """Half-open range of characters in that message's text."""
    source: str | None = None
    """The call that wrote it, when quoted."""


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP attempt at one LLM request."""

    id: str
    workflow: str
    task: str
    node: str
    endpoint: Endpoint
    request: Mapping[str, Any]
    """The JSON body as it was sent."""
    submit_ns: int
    end_ns: int
    attempt: int = 0
    status: int | None = None
    """HTTP status; ``None`` when no answer came."""
    error: str | None = None
    text: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    first_token_ns: int | None = None
    chunk_ns: tuple[int, ...] = ()
    """Arrival of every streamed chunk, counted from ``submit_ns``."""
    parts: tuple[PromptPart, ...] = ()
    agent: str | None = None
    """The agent that made it, as its framework names it; ``None`` where there is none, or only one without a name."""
    sibling_of: str | None = None
    """The first of the calls that one request asked for, where it asked for several answers or with several prompts."""
    pieces: int | None = None
    """Pieces of a streamed answer that carried output: what is known of its length where the server counted nothing."""

    @property
    def start_ns(self) -> int:
        return self.submit_ns

    @property
    def succeeded(self) -> bool:
        return self.status == 200 and self.error is None

    def token_ns(self, tokens: int) -> int:
        """When that many tokens of its answer had come, as far as the times of its chunks tell.

        Each chunk with output counts for equally many where they are fewer than the tokens. Without times of chunks,
        tokens came evenly from the first to the end.
        """
        began_ns = self.submit_ns if self.first_token_ns is None else self.first_token_ns
        chunks = [at for ns in self.chunk_ns if (at := self.submit_ns + ns) >= began_ns]
        length = self.pieces or len(chunks)
        if self.token_ids or self.output_tokens:
            length = len(self.token_ids or ()) or self.output_tokens or 0
        tokens = min(tokens, length)
        outputs = chunks[: min(self.pieces or length, length)]
        if outputs:
            return outputs[max(0, -(-tokens * len(outputs) // length) - 1)]
        return began_ns + (self.end_ns - began_ns) * max(0, tokens - 1) // max(1, length - 1)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Work outside the LLM server: a tool, or a node that made no call. Replay waits as long, and does not run it."""

    id: str
    workflow: str
    task: str
    node: str
    name: str
    start_ns: int
    end_ns: int
    error: str | None = None


Vertex = Call | ToolCall


@dataclass(frozen=True, slots=True)
class Edge:
    """``target`` began because, or only after, ``source`` had ended.

    ``barrier``: LangGraph's supersteps made it wait. ``trigger``: the least that control flow required.
    ``observed``: both in one node, and the one ended before the other began; it belongs to both edge sets.
    ``streamed``: ``target`` began on part of the answer of ``source``, once ``tokens`` of it had come; in both, too.
    """

    source: str
    target: str
    kind: EdgeKind
    tokens: int | None = None
    """Of a ``streamed`` edge, how much of the answer had come."""


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Requests that the recording saw, on their way to its server or another, and that are no calls of the trace."""

    what: str
    """Why, and which: ``POST /v1/embeddings is not captured``; with the whole URL where it went to another server."""
    requests: int
    workflow: str | None = None
    """``None`` where they are known to belong to none, or nobody knows to which."""


@dataclass(frozen=True)
class Workflow:
    """One execution of a graph, from its input to its final output."""

    id: str
    graph: str
    arrival_ns: int
    end_ns: int
    status: WorkflowStatus = "done"
    error: str | None = None
    input: Any = None
    tasks: tuple[Task, ...] = ()
    calls: tuple[Call, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    edges: tuple[Edge, ...] = ()
    success: bool | None = None
    """Whether it reached its goal, as somebody judged it; ``None`` where nobody said."""

    @cached_property
    def vertices(self) -> dict[str, Vertex]:
        """Calls and tool calls by id, in the order in which they began."""
        found: list[Vertex] = [*self.calls, *self.tool_calls]
        return {v.id: v for v in sorted(found, key=lambda v: (v.start_ns, v.id))}

    def predecessors(self, edge_set: EdgeSet = "barrier") -> dict[str, tuple[str, ...]]:
        """For every vertex, the vertices for whose end it waits; ``streamed`` has those of which it needs a part."""
        found: dict[str, list[str]] = {v: [] for v in self.vertices}
        for edge in self.edges:
            if edge.kind in (edge_set, "observed"):
                found[edge.target].append(edge.source)
        return {v: tuple(dict.fromkeys(sources)) for v, sources in found.items()}

    @cached_property
    def streamed(self) -> dict[str, dict[str, int]]:
        """For every vertex that began on part of an answer, the call that gave it, and how many tokens had come."""
        found: dict[str, dict[str, int]] = {}
        for edge in self.edges:
            if edge.kind == "streamed":
                sources = found.setdefault(edge.target, {})
                sources[edge.source] = max(sources.get(edge.source, 1), edge.tokens or 1)
        return found

    def token_ns(self, call: str, tokens: int) -> int:
        """When that many tokens of a call's answer had come."""
        source = self.vertices[call]
        return source.token_ns(tokens) if isinstance(source, Call) else source.end_ns

    @cached_property
    def gaps_ns(self) -> dict[str, int]:
        """For every vertex, the time between all that it waited for as recorded, and its own start.

        That is the end of what it came after, and the arrival of the part of an answer that it began on. It is the
        client's own work and thinking, and holds whichever edge set a replay follows.
        """
        waited_for = self.predecessors("barrier")
        gaps = {}
        for name, vertex in self.vertices.items():
            ready = [self.vertices[p].end_ns for p in waited_for[name]]
            ready += [self.token_ns(call, tokens) for call, tokens in self.streamed.get(name, {}).items()]
            gaps[name] = max(0, vertex.start_ns - max(ready, default=self.arrival_ns))
        return gaps


@dataclass(frozen=True, repr=False)
class Trace:
    """Recorded workflows, in order of arrival."""

    header: Header
    workflows: tuple[Workflow, ...]
    unrecorded: tuple[Unrecorded, ...] = ()
    edited: bool = field(default=False, compare=False)
    """Whether somebody changed the file since it was written: it is longer or shorter than it says."""

    def __repr__(self) -> str:
        return f"<Trace of {self.header.graph}: {len(self.workflows)} workflows, {sum(1 for _ in self.calls)} calls>"

    @property
    def calls(self) -> Iterator[Call]:
        return (call for workflow in self.workflows for call in workflow.calls)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that made calls, in the order in which they first did."""
        return tuple(dict.fromkeys(call.node for call in self.calls))

"""What to record: a workload or a user's graph, with the inputs of its workflows."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rejoule.graphs.capture import ServerInfo
from rejoule.graphs.load import opened_graph
from rejoule.graphs.made import Graph, opened
from rejoule.graphs.project import FILE, project_of, remarks_on
from rejoule.graphs.record import Recorded
from rejoule.graphs.situation import NOTHING, Situation, checked, text_of
from rejoule.graphs.workloads import WORKLOADS, load, settings_from
from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Header, Trace
from rejoule.traces.overview import figures, successes
from rejoule.traces.work import account

if TYPE_CHECKING:
    from openai import AsyncOpenAI

GREETING = "Hello! What can you do for me? Show me, please."
"""What a graph of messages is told where no input is given."""


@dataclass(frozen=True, slots=True)
class Source:
    """A graph that is ready to run."""

    graph: Graph
    inputs: list[Any]
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    situation: Situation = NOTHING


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asked to record."""

    target: str
    model: str | None = None
    workflows: int | None = None
    seed: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    documents: Path | None = None
    input_text: str | None = None
    situation: Situation = NOTHING

    @property
    def is_workload(self) -> bool:
        """Whether it names one of ReJoule's own graphs."""
        if self.target in WORKLOADS:
            return True
        # What is too long to be a path is no folder.
        is_folder = os.path.isdir(self.target)  # noqa: PTH112
        return ":" not in self.target and not self.target.endswith((".py", ".json")) and not is_folder

    def check(self) -> None:
        """Refuses what can be refused before a server is there."""
        if self.is_workload:
            if self.target not in WORKLOADS:
                raise RejouleError(
                    f"{self.target!r} is neither a workload nor a graph",
                    f"choose one of {', '.join(WORKLOADS)}, or give FILE.py:GRAPH",
                )
            if self.input_text is not None:
                raise RejouleError("a workload makes its own inputs", "leave --input out, or set sizes with --set")
            if self.situation != NOTHING:
                raise RejouleError("--context, --config and --configurable are for your own graphs", "leave them out")
            settings_from(load(self.target), self.settings).settled()
        elif self.settings or self.documents:
            raise RejouleError("--set and --documents are for workloads", "give your graph its input with --input")
        else:
            if ":" not in self.target and Path(self.target).is_dir() and project_of(self.target) is None:
                raise RejouleError(f"{self.target} holds no {FILE}", "give a folder with one, or FILE.py:GRAPH")
            self._given()

    def remarks(self) -> tuple[str, ...]:
        """What a user must know before it runs, a sentence each."""
        if not self.is_workload:
            return remarks_on(self.target)
        found: tuple[str, ...] = settings_from(load(self.target), self.settings).remarks()
        return found

    @asynccontextmanager
    async def source(self, server: ServerInfo) -> AsyncIterator[Source]:
        """Makes the graph and its inputs; its clients may read the environment now.

        A workload's client is closed with it, in the event loop that used it.
        """
        model = _served(self.model, server)
        if not self.is_workload:
            async with opened_graph(self.target, self.situation.config) as graph:
                yield _own(graph, model, self._given(), self.workflows, self.situation)
            return
        from openai import AsyncOpenAI

        async with AsyncOpenAI(base_url=server.base_url, api_key=server.api_key) as client:
            yield self._workload(client, model)

    def _workload(self, client: AsyncOpenAI, model: str) -> Source:
        from rejoule.graphs.corpus import Corpus

        workload = load(self.target)
        settings = settings_from(workload, self.settings).settled()
        corpus = Corpus.from_folder(self.documents) if self.documents else Corpus.standard_library()
        graph = workload.build(client, model, settings, corpus).compile()
        inputs = [workload.inputs(settings, corpus, self.seed, index) for index in range(self.workflows or 1)]
        return Source(graph, inputs, model, asdict(settings))

    def _given(self) -> list[Any]:
        """The inputs of ``--input``; empty without it."""
        text = self.input_text
        if text is None:
            return []
        read = text_of(text, "JSON, @FILE.json or FILE.jsonl", (".json", ".jsonl"))
        lines = [line for line in read.splitlines() if line.strip()] if text.endswith(".jsonl") else [read]
        try:
            found = [orjson.loads(line) for line in lines]
        except orjson.JSONDecodeError as error:
            raise RejouleError(
                f"--input is no JSON: {error}", 'write it as in --input \'{"messages": [["user", "Hello"]]}\''
            ) from error
        if not found:
            raise RejouleError(f"{self.input_text} holds no input", "put one JSON value a line there")
        return found


@dataclass(frozen=True, slots=True)
class OwnGraph:
    """A graph that the caller holds: compiled, a builder, what makes one, or a name as in ``FILE.py:GRAPH``."""

    graph: Any
    target: str
    inputs: Sequence[Any] = ()
    """One a workflow, over again where there are fewer; a message where there is none."""
    model: str | None = None
    workflows: int | None = None
    seed: int = 0
    situation: Situation = NOTHING

    def remarks(self) -> tuple[str, ...]:
        """What a user must know before it runs, a sentence each."""
        return remarks_on(self.graph) if isinstance(self.graph, str) else ()

    @asynccontextmanager
    async def source(self, server: ServerInfo) -> AsyncIterator[Source]:
        """Makes the graph; its clients may read the environment now."""
        config = self.situation.config
        making = (
            opened_graph(self.graph, config) if isinstance(self.graph, str) else opened(self.graph, self.target, config)
        )
        async with making as graph:
            yield _own(graph, _served(self.model, server), self.inputs, self.workflows, self.situation)


def wanted(
    graph: Any,
    inputs: Sequence[Any] = (),
    *,
    name: str | None = None,
    model: str | None = None,
    workflows: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    context: Any = None,
) -> Request | OwnGraph:
    """What to record, given as an object or by name. Raises RejouleError for what cannot be recorded."""
    if isinstance(inputs, str | bytes | Mapping) or not isinstance(inputs, Sequence):
        raise RejouleError("inputs is no list", "give a list with one input for each workflow: [input]")
    if workflows is not None and workflows < max(1, len(inputs)):
        raise RejouleError(
            f"workflows = {workflows} for {len(inputs)} inputs", "give at least as many workflows as inputs, or none"
        )
    given = Situation(context, checked(config or {}))
    workload = isinstance(graph, str) and Request(graph).is_workload
    if workload:
        if inputs:
            raise RejouleError("a workload makes its own inputs", "leave inputs out, or set sizes with settings")
        sizes = {key: str(value) for key, value in (settings or {}).items()}
        request = Request(graph, model, workflows, seed, sizes, situation=given)
        request.check()
        return request
    if settings:
        raise RejouleError("settings are for workloads", "give your graph its input with inputs")
    target = graph if isinstance(graph, str) else str(getattr(graph, "name", None) or "graph")
    return OwnGraph(graph, name or target, inputs, model, workflows, seed, given)


def _served(model: str | None, server: ServerInfo) -> str:
    """The model to record: the one asked for, or the server's first."""
    if model and server.models and model not in server.models:
        raise RejouleError(f"{server.base_url} does not serve {model!r}", f"choose one of {', '.join(server.models)}")
    return model or next(iter(server.models), "default")


def _own(graph: Graph, model: str, inputs: Sequence[Any], workflows: int | None, situation: Situation) -> Source:
    given = inputs or [default_input(graph)]
    count = workflows or len(given)
    return Source(graph, [given[index % len(given)] for index in range(count)], model, situation=situation)


def default_input(graph: Graph) -> dict[str, Any]:
    """One user's message, for a graph of messages."""
    keys = input_keys(graph)
    if "messages" not in keys:
        wanted = ", ".join(keys) or "unknown keys"
        if has_own_input(graph):
            remedy = f"give it as JSON: --input '{_example(keys)}'"
        else:
            wanted = f"keys of its state: {wanted}"
            remedy = f"give those that its first nodes read as JSON: --input '{_example(keys)}'"
        raise RejouleError(f"the graph wants an input ({wanted})", remedy)
    return {"messages": [{"role": "user", "content": GREETING}]}


def input_keys(graph: Graph) -> list[str]:
    """The keys of a graph's input: of a schema of its own those that are required, or all of its state."""
    builder = getattr(graph, "builder", None)
    schema = getattr(builder, "input_schema", None)
    names = getattr(builder, "schemas", {}).get(schema) or graph.channels
    keys = [name for name in names if not name.startswith(("__", "branch:", "join:"))]
    if not has_own_input(graph):
        return keys
    return [key for key in keys if key in getattr(schema, "__required_keys__", keys)] or keys


def has_own_input(graph: Graph) -> bool:
    """Whether its input has a schema of its own, apart from its state."""
    builder = getattr(graph, "builder", None)
    given = getattr(builder, "input_schema", None)
    return given is not None and given is not getattr(builder, "state_schema", None)


def _example(keys: Iterable[str]) -> str:
    return "{" + ", ".join(f'"{key}": …' for key in keys) + "}"


def summary(recorded: Recorded) -> dict[str, Any]:
    """What was recorded, in numbers; what no server said is ``None``."""
    calls = [call for workflow in recorded.workflows for call in workflow.calls]
    nodes = {node: [c for c in calls if c.node == node] for node in dict.fromkeys(c.node for c in calls)}
    statuses = [workflow.status for workflow in recorded.workflows]
    begun = min((w.arrival_ns for w in recorded.workflows), default=0)
    ended = max((w.end_ns for w in recorded.workflows), default=0)
    return {
        "workflows": len(statuses),
        "failed": statuses.count("failed"),
        "interrupted": statuses.count("interrupted"),
        "unasked_answers": recorded.unasked,
        "success": successes(recorded.workflows) if recorded.judged else None,
        **figures(calls),
        "tool_calls": sum(len(workflow.tool_calls) for workflow in recorded.workflows),
        "duration_s": (ended - begun) / 1e9,
        "nodes": [{"node": node, **figures(of_node)} for node, of_node in nodes.items()],
        "unrecorded": [asdict(other) for other in recorded.unrecorded],
        "work": asdict(account(Trace(Header("", ""), recorded.workflows, recorded.unrecorded))),
    }

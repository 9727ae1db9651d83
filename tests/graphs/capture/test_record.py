"""Recording many workflows: when they begin, how many at once, and what reaches the writer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from langgraph.graph import START, StateGraph

from rejoule.graphs.capture import Recording, Rewrite, ServerInfo, probe
from rejoule.graphs.failures import failure
from rejoule.graphs.record import Progress, arrival_times, record
from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Call, Task, ToolCall, Unrecorded, Workflow

from .bench import EMPTY, Bench, State
from .witness import Witness


@dataclass
class Shelf:
    """A writer that keeps everything, until its ``room`` is used up."""

    room: int = 1000
    added: list[Call | Task | ToolCall] = field(default_factory=list)
    closed: list[Workflow] = field(default_factory=list)

    def add(self, record: Call | Task | ToolCall) -> None:
        if len(self.added) == self.room:
            raise RejouleError("cannot write: no space left", "make room")
        self.added.append(record)

    def close(self, workflow: Workflow) -> None:
        self.closed.append(workflow)

    def tell(self, unrecorded: Iterable[Unrecorded]) -> None: ...


def echo(bench: Bench) -> Any:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)

    async def node(state: State) -> dict[str, list[str]]:
        return {"parts": [(await bench.llm.ainvoke(state["topic"])).text]}

    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph.compile()


def topics(*topics: str) -> list[dict[str, Any]]:
    return [{**EMPTY, "topic": topic} for topic in topics]


async def test_concurrency_is_a_limit(bench: Bench) -> None:
    """No more workflows than asked for run at once, and they begin in the order of their inputs."""
    shelf, seen = Shelf(), list[Progress]()
    inputs = topics(*(f"{i} SLEEP=0.03" for i in range(6)))
    recorded = await record(
        echo(bench), inputs, server=bench.server, writer=shelf, concurrency=2, on_progress=seen.append
    )
    spans = [(s.begun, s.ended or 0.0) for s in bench.witness.sightings]
    assert max(sum(a < end and begin < b for a, b in spans) for begin, end in spans) == 2
    assert [w.input["topic"][0] for w in recorded.workflows] == ["0", "1", "2", "3", "4", "5"]
    assert seen[-1] == Progress(workflows=6, calls=6)
    assert [w.id for w in recorded.workflows] == sorted(w.id for w in shelf.closed)


def test_arrivals() -> None:
    """A burst begins at once; Poisson arrivals follow their seed and their rate."""
    assert arrival_times(3, "burst", 0) == [0.0, 0.0, 0.0]
    times = arrival_times(2000, "poisson:4", 1)
    assert times == arrival_times(2000, "poisson:4", 1) != arrival_times(2000, "poisson:4", 2)
    assert times[-1] / 2000 == pytest.approx(1 / 4, rel=0.1)
    for wrong in ("poisson", "poisson:0", "poisson:-1", "poisson:nan", "poisson:inf", "often"):
        with pytest.raises(RejouleError, match="unknown"):
            arrival_times(1, wrong, 0)


async def test_full_disk_is_not_lost_in_the_graph(bench: Bench) -> None:
    """A writer that fails ends the recording with its own error, though the graph ran on."""
    shelf = Shelf(room=1)
    with pytest.raises(RejouleError, match="no space left"):
        await record(echo(bench), topics("a", "b"), server=bench.server, writer=shelf, concurrency=1)
    assert shelf.closed == []


async def test_server_that_is_gone(bench: Bench) -> None:
    """Calls to a server that died are recorded without a status, and their workflow as failed."""
    gone = ServerInfo("http://127.0.0.1:9/v1")
    bench.llm = bench.model(max_retries=1)
    recorded = await record(echo(bench), topics("a"), server=gone, writer=Shelf())
    (workflow,) = recorded.workflows
    assert workflow.status == "failed"
    assert [call.status for call in workflow.calls] == [None, None]
    assert all((call.error or "").startswith("ConnectError") for call in workflow.calls)


async def test_recordings_in_threads(bench: Bench) -> None:
    """Workflows in threads with event loops of their own are kept apart."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node("node", lambda state: {"parts": [bench.llm.invoke(state["topic"]).text]})
    graph.add_edge(START, "node")
    compiled = graph.compile()
    recording = Recording(Rewrite(bench.server))

    def one(topic: str) -> Workflow:
        return asyncio.run(recording.workflow(compiled, topics(topic)[0]))

    with recording.watching():
        names = [f"t{i} SLEEP=0.02" for i in range(4)]
        workflows = await asyncio.gather(*(asyncio.to_thread(one, name) for name in names))
    assert [w.calls[0].request["messages"][0]["content"] for w in workflows] == names
    assert {w.id for w in workflows} == {"w0000", "w0001", "w0002", "w0003"}


async def test_probe(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server says what it serves; a wrong root is refused with the right one."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-key")
    found = await probe(witness.base_url + "/")
    assert (found.models, found.owned_by, found.max_model_len) == (("tiny",), "rejoule", 4096)
    assert "sk-key" not in str(found.description)
    with pytest.raises(RejouleError, match=r"HTTP 404; give the root"):
        await probe(witness.base_url.removesuffix("/v1"))


async def test_little_time_is_added(bench: Bench) -> None:
    """Recording adds little to what a node costs anyway."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    names = [f"n{i}" for i in range(20)]
    for name in names:
        graph.add_node(name, lambda state: {"topic": "x"})
    graph.add_edge(START, names[0])
    for source, target in pairwise(names):
        graph.add_edge(source, target)
    compiled = graph.compile()
    recording = Recording(Rewrite(bench.server))

    async def fastest(recorded: bool) -> float:
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            await (recording.workflow(compiled, EMPTY) if recorded else compiled.ainvoke(EMPTY))
            times.append(time.perf_counter() - begun)
        return min(times)

    with recording.watching():
        plain, recorded = await fastest(False), await fastest(True)
    assert (recorded - plain) / len(names) < 0.005


async def test_a_failure_names_its_node(bench: Bench) -> None:
    """What a workflow failed of is told with the innermost node that raised it, and with none where none did."""

    def broken(state: State) -> dict[str, list[str]]:
        raise ZeroDivisionError("nothing left")

    def circling(state: State) -> dict[str, list[str]]:
        return {"parts": ["again"]}

    inner = StateGraph(State).add_node("inner", broken).add_edge(START, "inner").compile()
    outer = StateGraph(State).add_node("outer", inner).add_edge(START, "outer").compile()
    assert failure(await bench.record(outer)) == "w0000 in outer/inner: ZeroDivisionError: nothing left"
    endless = StateGraph(State).add_node("a", circling).add_edge(START, "a").add_edge("a", "a").compile()
    assert failure(await bench.record(endless, config={"recursion_limit": 3})).startswith("w0000: GraphRecursionError")

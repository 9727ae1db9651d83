"""Tools, interrupts, turns, and what cannot be placed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt

from rejoule.traces.check import problems
from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Call, Header, Task, Trace, Workflow

from .bench import EMPTY, Bench, Node, State, edges, graph_of, kinds, label


def chain(nodes: dict[str, Node], schema: type = State) -> StateGraph[Any, Any, Any, Any]:
    """Nodes one after another."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(schema)
    names = [START, *nodes]
    for name, node in nodes.items():
        graph.add_node(name, node)
    for source, target in pairwise(names):
        graph.add_edge(source, target)
    return graph


@tool
def lookup(x: str) -> str:
    """Look something up."""
    time.sleep(0.03)
    return f"found {x}"


def names(workflow: Workflow) -> list[tuple[str, str]]:
    """Edges between nodes and tools."""

    def name(id: str) -> str:
        vertex = workflow.vertices[id]
        return vertex.node if isinstance(vertex, Call) else vertex.name

    return sorted((name(a), name(b)) for a, b in graph_of(workflow, "trigger").edges)


async def test_tool_loop(bench: Bench) -> None:
    """An agent and its tools take turns; each tool run has its time."""
    bound = bench.llm.bind_tools([lookup])
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    graph.add_node("agent", lambda state: {"messages": [bound.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([lookup]))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", tools_condition)
    graph.add_edge("tools", "agent")
    workflow = await bench.record(graph, {"messages": [("user", "hi")]})
    assert names(workflow) == sorted([("agent", "lookup"), ("lookup", "agent")] * 2)
    for run in workflow.tool_calls:
        assert (run.name, run.node) == ("lookup", "tools")
        assert 25e6 < run.end_ns - run.start_ns < 2e9


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_create_agent_with_parallel_tools(bench: Bench, mode: str) -> None:
    """LangChain's agent: tools asked for at once run side by side, and the model waits for both."""
    model: Any = bench.llm
    if mode == "sync":
        # Without an asynchronous client of its own, the agent still runs on ainvoke.
        model = bench.model(http_async_client=bench.async_client)
    workflow = await bench.record(create_agent(model, [lookup]), {"messages": [("user", "PARALLEL=2 hi")]})
    assert [call.node for call in workflow.calls] == ["model", "model"]
    assert names(workflow) == sorted([("model", "lookup")] * 2 + [("lookup", "model")] * 2)


async def test_tool_that_calls_a_model(bench: Bench) -> None:
    """A tool that asks a model is no tool call: its calls stand for it, under its node, beside other tools'."""

    @tool
    async def ask(x: str) -> str:
        """Ask another model."""
        await bench.llm.ainvoke(f"inner-{x} one SLEEP=0.02")
        return (await bench.llm.ainvoke(f"inner-{x} two SLEEP=0.0{int(x) + 1}")).text

    workflow = await bench.record(create_agent(bench.llm, [ask]), {"messages": [("user", "PARALLEL=2 hi")]})
    assert workflow.tool_calls == ()
    assert {call.node for call in workflow.calls} == {"model", "tools"}
    found = {pair: kind for pair, kind in kinds(workflow).items() if pair[0].startswith("inner")}
    assert found["inner-0 one", "inner-0 two"] == {"observed"}
    assert ("inner-0 one", "inner-1 two") not in found


async def test_node_without_calls(bench: Bench) -> None:
    """A node that works without a model is a tool call, however short."""
    graph = chain(
        {
            "a": bench.say("a"),
            "work": lambda state: time.sleep(0.02),
            "route": lambda state: None,
            "b": bench.say("b"),
        }
    )
    workflow = await bench.record(graph)
    assert [(run.id, run.name) for run in workflow.tool_calls] == [("w0000/t000", "work"), ("w0000/t001", "route")]
    assert edges(workflow, "trigger") == [("a", "work"), ("route", "b"), ("work", "route")]
    assert workflow.tool_calls[0].end_ns - workflow.tool_calls[0].start_ns > 19e6


def asking(bench: Bench) -> StateGraph[Any, Any, Any, Any]:
    def ask(state: State) -> dict[str, list[str]]:
        bench.llm.invoke("before")
        answer = interrupt("well?")
        return {"parts": [bench.llm.invoke(f"after {answer}").text]}

    return chain({"a": bench.say("a"), "ask": ask, "b": bench.say("b")})


async def test_interrupt(bench: Bench) -> None:
    """A workflow that asks a person and gets no answer is recorded as interrupted."""
    workflow = await bench.record(asking(bench))
    assert workflow.status == "interrupted"
    assert [label(call) for call in workflow.calls] == ["a", "before"]
    assert all(task.error is None for task in workflow.tasks)


async def test_resume(bench: Bench) -> None:
    """An answer resumes it: what was interrupted runs again, after all that came before."""
    workflow = await bench.record(asking(bench), resume=["yes"])
    assert workflow.status == "done"
    assert [label(call) for call in workflow.calls] == ["a", "before", "before", "after yes", "b"]
    expected = [("a", "before"), ("before", "before"), ("before", "after yes"), ("after yes", "b")]
    assert edges(workflow, "trigger") == edges(workflow, "barrier") == sorted(expected)


async def test_breakpoint_of_the_graphs_own(bench: Bench) -> None:
    """A graph compiled with its own checkpointer, store and breakpoints keeps them; its database stays empty."""
    saver = InMemorySaver()
    graph = chain({"a": bench.say("a"), "b": bench.say("b")})
    compiled = graph.compile(checkpointer=saver, interrupt_before=["b"], name="own")
    stopped = await bench.record(compiled)
    assert (stopped.status, len(stopped.calls)) == ("interrupted", 1)
    bench.witness.sightings.clear()
    resumed = await bench.record(compiled, resume=[None])
    assert (resumed.status, edges(resumed, "trigger")) == ("done", [("a", "b")])
    assert not saver.storage


async def test_second_turn_on_one_thread(bench: Bench) -> None:
    """A second turn sees the first one's state, and waits for all of it."""
    seen: list[int] = []

    def count(state: State) -> dict[str, list[str]]:
        seen.append(len(state["parts"]))
        return {"parts": [bench.llm.invoke(f"turn {len(seen)}").text]}

    workflow = await bench.record(chain({"x": count, "y": bench.say("y")}), turns=[EMPTY])
    assert seen == [0, 2]
    assert edges(workflow, "trigger") == sorted([("turn 1", "y"), ("y", "turn 2"), ("turn 2", "y")])
    assert kinds(workflow)["y", "turn 2"] == {"barrier", "trigger"}


async def test_state_that_cannot_be_saved(bench: Bench) -> None:
    """A state that no checkpointer could store does not fail for being recorded."""
    graph = chain({"a": lambda state: {"topic": threading.Lock()}, "b": bench.say("b")})
    assert (await bench.record(graph)).status == "done"


async def test_work_that_outlives_its_node(bench: Bench) -> None:
    """Nothing waits for a call that a node left running."""
    left: list[asyncio.Task[Any]] = []

    async def leave(state: State) -> dict[str, list[str]]:
        left.append(asyncio.create_task(bench.llm.ainvoke("slow SLEEP=0.1")))
        await asyncio.sleep(0.01)
        return {"parts": []}

    async def wait(state: State) -> dict[str, list[str]]:
        await bench.llm.ainvoke("next")
        await left[0]
        return {"parts": []}

    workflow = await bench.record(chain({"leave": leave, "wait": wait}))
    assert edges(workflow, "barrier") == []
    assert [call.node for call in workflow.calls] == ["leave", "wait"]


class Worker(threading.Thread):
    """A thread from before the recording, which knows no context."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._jobs: list[Callable[[], Any]] = []
        self._wake = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self.start()

    def run(self) -> None:
        while True:
            self._wake.acquire()
            self._jobs.pop()()
            self._done.release()

    def do(self, job: Callable[[], Any]) -> None:
        self._jobs.append(job)
        self._wake.release()
        self._done.acquire()


async def test_call_without_a_place_is_refused(bench: Bench) -> None:
    """A call in a thread that knows no node is refused by name, with the remedy, and what was complete is kept."""
    worker = Worker()

    def node(state: State) -> dict[str, list[str]]:
        bench.llm.invoke("placed")
        worker.do(lambda: bench.llm.invoke("lost"))
        return {"parts": []}

    with pytest.raises(RejouleError, match=r"1 of w0000's calls came from a thread that knows no node; .*`config`"):
        await bench.record(chain({"node": node}))
    assert [label(kept) for kept in bench.kept if isinstance(kept, Call)] == ["placed"]


async def test_config_places_a_call(bench: Bench) -> None:
    """Passing the node's config to the call is that remedy."""
    worker = Worker()

    def node(state: State, config: Any) -> dict[str, list[str]]:
        worker.do(lambda: bench.llm.invoke("placed", config))
        return {"parts": []}

    from langchain_core.runnables import RunnableConfig

    node.__annotations__["config"] = RunnableConfig
    workflow = await bench.record(chain({"node": node}))
    assert [call.node for call in workflow.calls] == ["node"]


async def test_records_are_kept_as_they_complete(bench: Bench) -> None:
    """Every call and task is handed over when it completes, and equals what the workflow holds in the end."""
    workflow = await bench.record(chain({"a": bench.say("a"), "b": bench.say("b")}))
    assert [record.id for record in bench.kept] == ["w0000/c000", "w0000/n000", "w0000/c001", "w0000/n001"]
    ended: list[Call | Task] = [*workflow.calls, *workflow.tasks]
    by_id = {record.id: record for record in ended}
    assert all(by_id[record.id] == record for record in bench.kept)


async def test_what_is_recorded_passes_the_check(bench: Bench) -> None:
    """A recorded workflow has none of the faults that reading a trace looks for."""
    workflow = await bench.record(asking(bench), resume=["yes"])
    assert problems(Trace(Header(graph="g", model="tiny"), (workflow,))) == []


async def test_command_as_input(bench: Bench) -> None:
    """A later turn may be a Command, as the user's own code would resume."""
    workflow = await bench.record(asking(bench), turns=[Command(resume="ok")])
    assert workflow.status == "done"
    assert [label(call) for call in workflow.calls][-2:] == ["after ok", "b"]

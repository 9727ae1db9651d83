"""Agents are told apart, by names that frameworks give them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from .bench import Bench


async def ask(bench: Bench, said: str) -> str:
    return str((await bench.model().ainvoke(said)).content)


def asking(bench: Bench, name: str | None, said: str) -> Any:
    """A graph of one call."""

    async def model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("ai", await ask(bench, said))]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", model)
    builder.add_edge(START, "model")
    return builder.compile(name=name) if name else builder.compile()


def around(node: Any, *, marked: str | None = None, name: str = "work") -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node(name, node)
    builder.add_edge(START, name)
    graph = builder.compile()
    return graph.with_config(metadata={"lc_agent_name": marked}) if marked else graph


async def found(bench: Bench, graph: Any) -> list[tuple[str, str | None]]:
    workflow = await bench.record(graph, {"messages": []})
    assert workflow.error is None
    return [(call.node, call.agent) for call in workflow.calls]


@pytest.mark.parametrize(("name", "agent"), [("researcher", "researcher"), (None, None)])
async def test_a_graph_that_is_a_node(bench: Bench, name: str | None, agent: str | None) -> None:
    """A named subgraph is an agent; one without a name is none."""
    assert await found(bench, around(asking(bench, name, "a"))) == [("work/model", agent)]


@pytest.mark.parametrize(("name", "agent"), [("researcher", "researcher"), (None, None)])
async def test_a_graph_behind_a_tool(bench: Bench, name: str | None, agent: str | None) -> None:
    """Behind a tool, its nodes have the tool's name in theirs; without a name it is not taken for who called it."""

    @tool
    async def research(question: str) -> str:
        """Have a question researched."""
        return str(await asking(bench, name, question).ainvoke({"messages": []}))

    async def work(state: MessagesState) -> dict[str, Any]:
        await research.ainvoke({"question": "a"})
        return {"messages": [("ai", await ask(bench, "b"))]}

    assert await found(bench, around(work, marked="lead")) == [("work/research/model", agent), ("work", "lead")]


async def test_one_tool_for_several_agents(bench: Bench) -> None:
    """Where the tool is told which agent, the nodes of each have its name."""

    @tool
    async def task(agent: str) -> str:
        """Have an agent work."""
        return str(await asking(bench, agent, agent).ainvoke({"messages": []}))

    async def work(state: MessagesState) -> dict[str, Any]:
        for agent in ("a", "b"):
            await task.ainvoke({"agent": agent})
        return {"messages": []}

    assert await found(bench, around(work)) == [("work/task/a/model", "a"), ("work/task/b/model", "b")]


async def test_graphs_inside_an_agent_are_its_own(bench: Bench) -> None:
    """An unnamed subgraph works for the agent around it."""
    inner = around(asking(bench, None, "a"), name="part")
    assert await found(bench, around(inner, marked="lead")) == [("work/part/model", "lead")]

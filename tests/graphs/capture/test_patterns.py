"""Every pattern of LangGraph's control flow gives the edges that its logic demands, written here by hand."""

from __future__ import annotations

import asyncio
import operator
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Annotated, Any, TypedDict

import networkx as nx
import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy, Send

from .bench import EMPTY, Bench, Node, State, edges, kinds


@pytest.fixture(params=["sync", "async"])
def says(request: pytest.FixtureRequest, bench: Bench) -> Any:
    """Makes nodes of one call each, synchronous or asynchronous."""
    return bench.say if request.param == "sync" else bench.asay


def builder(nodes: dict[str, Node], *steps: tuple[Any, str], schema: type = State) -> StateGraph[Any, Any, Any, Any]:
    """A graph of these nodes and edges; several sources at once are a join."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(schema)
    for name, node in nodes.items():
        graph.add_node(name, node)
    for source, target in steps:
        graph.add_edge(source, target)
    return graph


async def test_chain(bench: Bench, says: Any) -> None:
    """A chain of nodes is a chain of calls."""
    graph = builder({n: says(n) for n in "abc"}, (START, "a"), ("a", "b"), ("b", "c"))
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger") == edges(workflow, "barrier") == [("a", "b"), ("b", "c")]
    assert kinds(workflow) == {("a", "b"): {"barrier", "trigger"}, ("b", "c"): {"barrier", "trigger"}}
    assert [call.node for call in workflow.calls] == ["a", "b", "c"]
    assert [call.id for call in workflow.calls] == ["w0000/c000", "w0000/c001", "w0000/c002"]
    assert [(task.id, task.node, task.step) for task in workflow.tasks] == [
        ("w0000/n000", "a", 1),
        ("w0000/n001", "b", 2),
        ("w0000/n002", "c", 3),
    ]


async def test_sends_of_two_nodes(bench: Bench, says: Any) -> None:
    """Each Send is woken by the node that sent it, and a step's Sends end before the next step begins."""
    graph = builder(
        {n: says(n) for n in ("root", "p", "q", "w", "j")},
        (START, "root"),
        ("root", "p"),
        ("root", "q"),
        ("w", "j"),
    )
    graph.add_conditional_edges("q", lambda s: [Send("w", {})] * 2, ["w"])
    graph.add_conditional_edges("p", lambda s: [Send("w", {})] * 3, ["w"])
    workflow = await bench.record(graph)
    root = [("root", "p"), ("root", "q")]
    assert edges(workflow, "trigger") == sorted([*root, *[("p", "w")] * 3, *[("q", "w")] * 2, *[("w", "j")] * 5])
    assert edges(workflow, "barrier") == sorted([*root, *[("p", "w")] * 5, *[("q", "w")] * 5, *[("w", "j")] * 5])


async def test_join_over_several_steps(bench: Bench, says: Any) -> None:
    """A join waits for writers of several steps; only the barrier makes a fast branch wait for a slow one."""
    names = ("r", "fast", "slow", "fast2", "slow2", "j")
    graph = builder(
        {n: says(f"{n} SLEEP=0.1" if n == "slow" else n) for n in names},
        (START, "r"),
        ("r", "fast"),
        ("r", "slow"),
        ("fast", "fast2"),
        ("slow", "slow2"),
        (["fast2", "slow2", "fast"], "j"),
    )
    workflow = await bench.record(graph)
    trigger = [("r", "fast"), ("r", "slow"), ("fast", "fast2"), ("slow", "slow2"), ("fast2", "j"), ("slow2", "j")]
    assert edges(workflow, "trigger") == sorted(trigger)
    assert edges(workflow, "barrier") == sorted([*trigger, ("fast", "slow2"), ("slow", "fast2")])


async def test_deferred_node(bench: Bench, says: Any) -> None:
    """A deferred node waits for all that was still to come."""
    graph = builder(
        {n: says(n) for n in ("r", "a", "b", "b2")},
        (START, "r"),
        ("r", "a"),
        ("r", "b"),
        ("b", "b2"),
    )
    graph.add_node("d", says("d"), defer=True)
    graph.add_edge("a", "d")
    graph.add_edge("b2", "d")
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger") == sorted([("r", "a"), ("r", "b"), ("b", "b2"), ("a", "d"), ("b2", "d")])


async def test_subgraph_as_a_node(bench: Bench, says: Any) -> None:
    """The calls of a subgraph stand between those around it, under its node's name."""
    inner = builder({n: says(n) for n in "xyz"}, (START, "x"), ("x", "y"), ("x", "z"))
    graph = builder({"pre": says("pre"), "post": says("post")}, (START, "pre"), ("pre", "sub"), ("sub", "post"))
    graph.add_node("sub", inner.compile())
    workflow = await bench.record(graph)
    expected = sorted([("pre", "x"), ("x", "y"), ("x", "z"), ("y", "post"), ("z", "post")])
    assert edges(workflow, "trigger") == edges(workflow, "barrier") == expected
    assert [call.node for call in workflow.calls][1] == "sub/x"
    instances = {task.node: task.graph_instance for task in workflow.tasks}
    sub = next(task for task in workflow.tasks if task.node == "sub")
    assert instances == {"pre": "", "sub": "", "post": ""} | {f"sub/{n}": sub.id for n in "xyz"}


async def test_subgraphs_two_deep(bench: Bench, says: Any) -> None:
    """Subgraphs nest."""
    deep = builder({n: says(n) for n in ("i1", "i2")}, (START, "i1"), ("i1", "i2")).compile()
    middle = builder({"in": deep, "after": says("after")}, (START, "in"), ("in", "after")).compile()
    graph = builder({"s": middle, "end": says("end")}, (START, "s"), ("s", "end"))
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger") == sorted([("i1", "i2"), ("i2", "after"), ("after", "end")])
    assert workflow.calls[0].node == "s/in/i1"


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_graph_called_twice_in_a_node(bench: Bench, mode: str) -> None:
    """Graphs called from code inside a node take their places between the node's own calls."""
    says = bench.say if mode == "sync" else bench.asay
    inner = builder({n: says(n) for n in ("i1", "i2")}, (START, "i1"), ("i1", "i2")).compile()

    def caller(state: State) -> dict[str, list[str]]:
        for word in ("before", "middle"):
            bench.llm.invoke(word)
            inner.invoke(EMPTY)
        return {"parts": [bench.llm.invoke("after").text]}

    async def acaller(state: State) -> dict[str, list[str]]:
        for word in ("before", "middle"):
            await bench.llm.ainvoke(word)
            await inner.ainvoke(EMPTY)
        return {"parts": [(await bench.llm.ainvoke("after")).text]}

    nodes = {"caller": caller if mode == "sync" else acaller, "post": says("post")}
    graph = builder(nodes, (START, "caller"), ("caller", "post"))
    workflow = await bench.record(graph)
    chain = ["before", "i1", "i2", "middle", "i1", "i2", "after", "post"]
    assert edges(workflow, "trigger") == sorted(pairwise(chain))
    assert kinds(workflow)["before", "i1"] == {"observed"}
    assert kinds(workflow)["i1", "i2"] == {"barrier", "trigger"}
    assert len({task.graph_instance for task in workflow.tasks}) == 3


async def test_subgraph_without_checkpointer(bench: Bench, says: Any) -> None:
    """A subgraph that refuses checkpoints is ordered by its supersteps."""
    inner = builder({n: says(n) for n in ("x", "y")}, (START, "x"), ("x", "y")).compile(checkpointer=False)
    graph = builder({"sub": inner, "post": says("post")}, (START, "sub"), ("sub", "post"))
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger") == [("x", "y"), ("y", "post")]


async def test_inner_graph_on_its_own_thread(bench: Bench, says: Any) -> None:
    """An inner graph that is given a thread of its own still belongs to the node that runs it."""
    inner = builder({n: says(n) for n in ("x", "y")}, (START, "x"), ("x", "y")).compile()

    async def caller(state: State) -> dict[str, list[str]]:
        await inner.ainvoke(EMPTY, {"configurable": {"thread_id": "mine"}, "callbacks": []})
        return {"parts": []}

    graph = builder({"caller": caller, "post": says("post")}, (START, "caller"), ("caller", "post"))
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger") == [("x", "y"), ("y", "post")]
    assert workflow.calls[0].node == "caller/x"


async def test_send_from_start(bench: Bench, says: Any) -> None:
    """Sends at the entry wait for nothing, and all of them wake what follows."""
    graph = builder({"w": says("w"), "j": says("j")}, ("w", "j"))
    graph.add_conditional_edges(START, lambda s: [Send("w", {})] * 3, ["w"])
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger") == edges(workflow, "barrier") == [("w", "j")] * 3


class Labelled(TypedDict):
    by: str
    parts: Annotated[list[str], operator.add]


async def test_sends_of_sends_carry_their_senders_label(bench: Bench) -> None:
    """Sends of Commands, and of nodes that were sent themselves, are woken by their true senders."""

    def first(name: str, pause: float, count: int) -> Node:
        def node(state: Labelled) -> Command[Any]:
            bench.llm.invoke(f"{name} SLEEP={pause}")
            return Command(goto=[Send("w", {"by": f"{name}{'x' * i}"}) for i in range(count)])

        return node

    def second(state: Labelled) -> Command[Any]:
        bench.llm.invoke(f"w by:{state['by']}")
        count = len(state["by"]) % 3 + 1
        return Command(goto=[Send("v", {"by": f"{state['by']}.{i}"}) for i in range(count)])

    def third(state: Labelled) -> dict[str, list[str]]:
        bench.llm.invoke(f"v by:{state['by']}")
        return {"parts": []}

    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Labelled)
    for name, pause, count in (("zeta", 0.0, 2), ("alpha", 0.05, 1), ("mid", 0.02, 3)):
        graph.add_node(name, first(name, pause, count), destinations=("w",))
        graph.add_edge(START, name)
    graph.add_node("w", second, destinations=("v",))
    graph.add_node("v", third)
    found = edges(await bench.record(graph, {"by": "", "parts": []}), "trigger")
    assert len(found) == 20
    for source, target in found:
        if target.startswith("w"):
            assert target.removeprefix("w by:").startswith(source)
        else:
            assert source == "w by:" + target.removeprefix("v by:").rpartition(".")[0]


async def test_command_loop(bench: Bench) -> None:
    """Commands choose the next node, round after round."""
    rounds = iter(range(10))

    def router(state: State) -> Command[Any]:
        bench.llm.invoke("router")
        return Command(goto="left" if next(rounds) < 2 else END)

    graph = builder({"left": bench.say("left")}, (START, "router"), ("left", "router"))
    graph.add_node("router", router, destinations=("left", END))
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger") == sorted([("router", "left"), ("left", "router")] * 2)
    assert [call.node for call in workflow.calls] == ["router", "left"] * 2 + ["router"]


async def test_command_to_the_parent_graph(bench: Bench, says: Any) -> None:
    """A subgraph's Command to its parent wakes the parent's node, and is no error."""

    def leave(state: State) -> Command[Any]:
        bench.llm.invoke("leave")
        return Command(goto="target", graph=Command.PARENT)

    inner = builder({"leave": leave}, (START, "leave")).compile()
    graph = builder({"target": says("target")}, (START, "sub"))
    graph.add_node("sub", inner, destinations=("target",))
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger") == [("leave", "target")]
    assert all(task.error is None for task in workflow.tasks)


async def test_gather_in_a_node(bench: Bench) -> None:
    """Inside a node, what ended before another began is observed; what overlapped is not ordered."""

    async def gather(state: State) -> dict[str, list[str]]:
        await asyncio.gather(*(bench.llm.ainvoke(f"g{i} SLEEP=0.05") for i in range(3)))
        return {"parts": [(await bench.llm.ainvoke("sum")).text]}

    workflow = await bench.record(builder({"gather": gather}, (START, "gather")))
    assert kinds(workflow) == {(f"g{i}", "sum"): {"observed"} for i in range(3)}


async def test_batch_in_a_node(bench: Bench) -> None:
    """LangChain's batches run side by side."""

    def batch(state: State) -> dict[str, list[str]]:
        return {"parts": [m.text for m in bench.llm.batch(["b0 SLEEP=0.05", "b1 SLEEP=0.05"])]}

    workflow = await bench.record(builder({"b": batch}, (START, "b")))
    assert len(workflow.calls) == 2
    assert edges(workflow, "trigger") == []


async def test_bare_threads_in_a_node(bench: Bench) -> None:
    """Calls in threads that a node starts itself are placed in that node."""
    pool = ThreadPoolExecutor(2)

    def threads(state: State) -> dict[str, list[str]]:
        with ThreadPoolExecutor(2) as own:
            answers = [*own.map(bench.llm.invoke, ["t0 SLEEP=0.05", "t1 SLEEP=0.05"])]
        answers.append(pool.submit(bench.llm.invoke, "t2").result())
        return {"parts": [answer.text for answer in answers]}

    workflow = await bench.record(
        builder({"threads": threads, "z": bench.say("z")}, (START, "threads"), ("threads", "z"))
    )
    pool.shutdown()
    assert edges(workflow, "trigger") == [("t0", "t2"), ("t1", "t2"), ("t2", "z")]
    assert {call.node for call in workflow.calls[:3]} == {"threads"}


async def test_node_that_is_retried(bench: Bench) -> None:
    """The calls of a failed try and of the next belong to one task, in their order."""
    tries = iter(range(3))

    def flaky(state: State) -> dict[str, list[str]]:
        number = next(tries)
        answer = bench.llm.invoke(f"try{number}").text
        if number == 0:
            raise ValueError("not yet")
        return {"parts": [answer]}

    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    policy = RetryPolicy(max_attempts=3, initial_interval=0.01, retry_on=ValueError)
    graph.add_node("flaky", flaky, retry_policy=policy)
    graph.add_edge(START, "flaky")
    workflow = await bench.record(graph)
    assert kinds(workflow) == {("try0", "try1"): {"observed"}}
    assert [task.error for task in workflow.tasks] == [None]
    assert workflow.status == "done"


async def test_functional_api(bench: Bench) -> None:
    """Tasks of an entrypoint are ordered by when they ran."""

    @task
    async def step(name: str) -> str:
        return (await bench.llm.ainvoke(name)).text

    @entrypoint()
    async def flow(topic: str) -> str:
        await asyncio.gather(step("f0 SLEEP=0.05"), step("f1 SLEEP=0.05"))
        return await step("f2")

    workflow = await bench.record(flow, "topic")
    assert kinds(workflow) == {("f0", "f2"): {"observed"}, ("f1", "f2"): {"observed"}}
    assert {call.node for call in workflow.calls} == {"flow/step"}


class Parts(TypedDict):
    parts: Annotated[list[str], operator.add]


async def test_sends_into_a_subgraph(bench: Bench, says: Any) -> None:
    """Subgraphs that run side by side keep their own order, and what follows waits for all of them."""
    inner = builder({n: says(n) for n in ("x", "y")}, (START, "x"), ("x", "y"), schema=Parts).compile()
    graph = builder({"sub": inner, "j": says("j")}, ("sub", "j"), schema=Parts)
    graph.add_conditional_edges(START, lambda s: [Send("sub", {"parts": []})] * 3, ["sub"])
    workflow = await bench.record(graph, {"parts": []})
    assert edges(workflow, "trigger") == sorted([("x", "y"), ("y", "j")] * 3)
    assert len({task.graph_instance for task in workflow.tasks}) == 4


async def test_subgraph_with_a_memory(bench: Bench, says: Any) -> None:
    """A subgraph that keeps its state between calls keeps its order in each."""
    inner = builder({n: says(n) for n in ("x", "y")}, (START, "x"), ("x", "y")).compile(checkpointer=True)
    rounds = iter(range(5))

    def again(state: State) -> Command[Any]:
        return Command(goto="sub" if next(rounds) == 0 else END)

    graph = builder({"sub": inner}, (START, "sub"), ("sub", "again"))
    graph.add_node("again", again, destinations=("sub", END))
    workflow = await bench.record(graph)
    assert [call.node for call in workflow.calls] == ["sub/x", "sub/y"] * 2
    assert edges(workflow, "trigger") == sorted(
        [("x", "y"), ("y", "again"), ("again", "x"), ("x", "y"), ("y", "again")]
    )


async def test_node_answered_from_a_cache(bench: Bench) -> None:
    """What a node that did not run would have woken waits for what would have woken that node."""
    graph = builder({n: bench.say(n) for n in ("a", "c")}, (START, "a"), ("b", "c"))
    graph.add_node("b", bench.say("b"), cache_policy=CachePolicy(key_func=lambda state: "same"))
    graph.add_edge("a", "b")
    compiled = graph.compile(cache=InMemoryCache())
    assert edges(await bench.record(compiled), "trigger") == [("a", "b"), ("b", "c")]
    bench.witness.sightings.clear()
    assert edges(await bench.record(compiled), "trigger") == [("a", "c")]


async def test_node_that_handles_an_error(bench: Bench) -> None:
    """A node's error handler comes after the failed node, in the same step, and before what follows."""

    def fails(state: State) -> dict[str, list[str]]:
        bench.llm.invoke("fails")
        raise ValueError("no")

    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node("fails", fails, error_handler=bench.say("handler"))
    graph.add_node("after", bench.say("after"))
    graph.add_edge(START, "fails")
    graph.add_edge("fails", "after")
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger")[0] == ("fails", "handler")
    assert workflow.status == "done"


async def test_inner_graph_that_streams(bench: Bench) -> None:
    """A graph whose stream a node reads is placed like one that it calls."""
    inner = builder({n: bench.say(n) for n in ("x", "y")}, (START, "x"), ("x", "y")).compile()

    def reads(state: State) -> dict[str, list[str]]:
        return {"parts": [str(chunk) for chunk in inner.stream(EMPTY)]}

    workflow = await bench.record(builder({"r": reads, "z": bench.say("z")}, (START, "r"), ("r", "z")))
    assert edges(workflow, "trigger") == [("x", "y"), ("y", "z")]


async def test_random_layered_graphs(bench: Bench) -> None:
    """40 random graphs with joins: the trigger edges are the graph's own, reduced; 0 mismatches."""
    choose = random.Random(1)
    for _ in range(40):
        layers = [[f"n{layer}_{i}" for i in range(choose.randint(1, 3))] for layer in range(choose.randint(2, 5))]
        names = [name for layer in layers for name in layer]
        says = choose.choice([bench.say, bench.asay])
        graph = builder({n: says(f"{n} SLEEP={choose.choice([0, 0.005, 0.015])}") for n in names})
        wanted: nx.DiGraph[str] = nx.DiGraph()
        wanted.add_nodes_from(names)
        for name in layers[0]:
            graph.add_edge(START, name)
        for k, layer in enumerate(layers[1:], 1):
            earlier = [name for before in layers[:k] for name in before]
            for name in layer:
                sources = choose.sample(earlier, k=min(choose.randint(1, 3), len(earlier)))
                graph.add_edge(sources if len(sources) > 1 else sources[0], name)
                wanted.add_edges_from((source, name) for source in sources)
        bench.witness.sightings.clear()
        workflow = await bench.record(graph)
        assert set(edges(workflow, "trigger")) == set(nx.transitive_reduction(wanted).edges)


class Hops(TypedDict):
    hops: Annotated[int, operator.add]
    seen: Annotated[list[tuple[str, int]], operator.add]


async def test_random_conditional_loops(bench: Bench) -> None:
    """20 random loops, one or two nodes at a time: each run of a node waits for exactly the runs that chose it."""
    choose = random.Random(7)
    names = [f"n{i}" for i in range(4)]
    for _ in range(20):
        chosen: set[tuple[str, str]] = set()

        def node(name: str) -> Node:
            def run(state: Hops) -> dict[str, int]:
                bench.llm.invoke(f"{name}@{state['hops']}")
                return {"hops": 1}

            return run

        def route(name: str, chosen: set[tuple[str, str]] = chosen) -> Any:
            def choice(state: Hops) -> Any:
                targets = choose.sample(names, k=choose.randint(1, 2)) if state["hops"] < 8 else [END]
                # The nodes of one step see the same count of hops, and the next step sees all of theirs.
                chosen.update((f"{name}@{state['hops'] - 1}", target) for target in targets if target != END)
                return targets

            return choice

        graph: StateGraph[Any, Any, Any, Any] = StateGraph(Hops)
        for name in names:
            graph.add_node(name, node(name))
            graph.add_conditional_edges(name, route(name), [*names, END])
        graph.add_edge(START, "n0")
        bench.witness.sightings.clear()
        workflow = await bench.record(graph, {"hops": 0, "seen": []})
        found = {(source, target.partition("@")[0]) for source, target in edges(workflow, "trigger")}
        assert found == chosen

"""Streams that a client leaves before their end: what was computed of them, and what follows them."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import openai
import pytest

from rejoule.graphs.capture.attempt import LET_GO

from .bench import Bench, State, edges, label
from .streams import DONE, LONG, begun_on, only, readers, said


@pytest.mark.parametrize("talks", ["sync", "async"])
async def test_closing_early(bench: Bench, talks: str) -> None:
    """A client that lets go half-way did so when it did; the tokens until then are what had come, read or not."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)
    aclient = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)
    closed: list[float] = []

    def node(state: State) -> Any:
        stream = client.chat.completions.create(**said(LONG, stream=True))
        next(stream)
        time.sleep(0.1)
        closed.append(time.monotonic())
        stream.close()
        return DONE

    async def anode(state: State) -> Any:
        stream = await aclient.chat.completions.create(**said(LONG, stream=True))
        await anext(stream)
        await asyncio.sleep(0.1)
        closed.append(time.monotonic())
        await stream.close()
        return DONE

    began = time.monotonic()
    workflow = await bench.record(only(node if talks == "sync" else anode))
    (call,) = workflow.calls
    assert call.error == LET_GO
    assert call.token_ids is not None and 3 <= len(call.token_ids) <= 7
    assert abs((call.end_ns / 1e9) - (closed[0] - began)) < 0.05
    assert readers() == []


@pytest.mark.parametrize("talks", ["sync", "async"])
async def test_breaking_off_without_closing(bench: Bench, talks: str) -> None:
    """A stream that is left open goes on: its call is as long as the server made it, and what came next began on it."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)
    aclient = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)

    def node(state: State) -> Any:
        stream = client.chat.completions.create(**said(LONG, stream=True))
        next(stream), next(stream)
        client.chat.completions.create(**said("then SLEEP=0.4"))
        return DONE

    async def anode(state: State) -> Any:
        stream = await aclient.chat.completions.create(**said(LONG, stream=True))
        await anext(stream), await anext(stream)
        await aclient.chat.completions.create(**said("then SLEEP=0.4"))
        return DONE

    workflow = await bench.record(only(node if talks == "sync" else anode))
    call, then = workflow.calls
    assert call.succeeded and call.end_ns < then.end_ns - 0.1e9
    assert begun_on(workflow) == {(label(call), "then"): 2}


@pytest.mark.parametrize("mode", ["sync", "async", "nested"])
async def test_a_stream_that_a_node_leaves_open(bench: Bench, mode: str) -> None:
    """What follows a node, in whichever thread, began on the part of an answer that the node had read."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)
    aclient = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)
    kept: list[Any] = []

    def node(state: State) -> Any:
        kept.append(client.chat.completions.create(**said(LONG, stream=True)))
        next(kept[0]), next(kept[0])
        return DONE

    async def anode(state: State) -> Any:
        kept.append(await aclient.chat.completions.create(**said(LONG, stream=True)))
        await anext(kept[0]), await anext(kept[0])
        return DONE

    graph = only({"sync": node, "async": anode, "nested": only(node).compile()}[mode])
    graph.add_node("quiet", lambda state: {"parts": []})
    graph.add_node("next", bench.say("next SLEEP=0.5"))
    graph.add_edge("node", "quiet")
    graph.add_edge("quiet", "next")
    workflow = await bench.record(graph)
    assert [call.succeeded for call in workflow.calls] == [True, True]
    (tokens,) = begun_on(workflow).values()
    assert list(begun_on(workflow)) == [(label(workflow.calls[0]), "quiet")] and tokens in (1, 2)
    assert edges(workflow, "barrier") == edges(workflow, "trigger") == [("quiet", "next")]
    await kept[0].close() if mode == "async" else kept[0].close()


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_stream_that_a_node_drops(bench: Bench, mode: str) -> None:
    """What nobody can read any more is let go when its node ends, whenever Python would come to collect it."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)
    aclient = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)
    tale = " ".join(["word"] * 80) + " GAP=0.02"

    def node(state: State) -> Any:
        for number, _ in enumerate(client.chat.completions.create(**said(tale, stream=True))):
            if number == 3:
                break
        return DONE

    async def anode(state: State) -> Any:
        number = 0
        async for _ in await aclient.chat.completions.create(**said(tale, stream=True)):
            if (number := number + 1) == 3:
                break
        return DONE

    graph = only(node if mode == "sync" else anode)
    graph.add_node("next", bench.asay("next SLEEP=0.6"))
    graph.add_edge("node", "next")
    gc.collect()
    gc.disable()
    try:
        workflow = await bench.record(graph)
    finally:
        gc.enable()
    left, then = workflow.calls
    assert left.error == LET_GO and left.end_ns < then.submit_ns + 0.2e9
    assert [(e.source, e.target) for e in workflow.edges] == [(left.id, then.id)]


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_stream_that_is_read_on_behind_a_node(bench: Bench, leaves: bool) -> None:
    """What follows a node waits for nothing that a thread of the node's reads on, or read nothing of."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)
    pool, read = ThreadPoolExecutor(1), threading.Event()

    def behind(stream: Any) -> None:
        for number, _ in enumerate(stream):
            if number == 2:
                read.set()

    def node(state: State) -> Any:
        stream = client.chat.completions.create(**said(LONG, stream=True))
        if leaves:
            pool.submit(copy_context().run, behind, stream)
            read.wait()
        return DONE

    graph = only(node)
    graph.add_node("next", bench.say("next SLEEP=0.5"))
    graph.add_edge("node", "next")
    workflow = await bench.record(graph)
    pool.shutdown()
    assert len(workflow.calls) == 2 and workflow.edges == ()

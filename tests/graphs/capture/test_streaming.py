"""Time that is the client's and not the server's: what a client does between two pieces of a stream."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

import httpx2
import openai
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableParallel
from langchain_core.tools import tool

from rejoule.graphs.capture.progress import tokens_in
from rejoule.graphs.capture.rewrite import Outgoing
from rejoule.graphs.capture.wire import Request, tapped
from rejoule.traces.model import Call
from rejoule.traces.testing import made_call

from .bench import EMPTY, Bench, Node, State, kinds
from .streams import DONE, LONG, begun_on, only, readers, said

PAUSE_S = 1.2
"""Longer than the whole of an answer takes."""

Talk = Callable[[Bench, Callable[[], None], Callable[[], Awaitable[None]]], Node]


def by_sdk(bench: Bench, work: Callable[[], None], awork: Callable[[], Awaitable[None]]) -> Node:
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)

    def node(state: State) -> Any:
        for number, _ in enumerate(client.chat.completions.create(**said(LONG, stream=True))):
            if number == 3:
                work()
        return DONE

    return node


def by_async_sdk(bench: Bench, work: Callable[[], None], awork: Callable[[], Awaitable[None]]) -> Node:
    client = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)

    async def node(state: State) -> Any:
        number = 0
        async for _ in await client.chat.completions.create(**said(LONG, stream=True)):
            if number == 3:
                await awork()
            number += 1
        return DONE

    return node


def by_model(bench: Bench, work: Callable[[], None], awork: Callable[[], Awaitable[None]]) -> Node:
    def node(state: State) -> Any:
        for number, _ in enumerate(bench.llm.stream(LONG)):
            if number == 3:
                work()
        return DONE

    return node


def by_async_model(bench: Bench, work: Callable[[], None], awork: Callable[[], Awaitable[None]]) -> Node:
    async def node(state: State) -> Any:
        number = 0
        async for _ in bench.llm.astream(LONG):
            if number == 3:
                await awork()
            number += 1
        return DONE

    return node


def by_chain(bench: Bench, work: Callable[[], None], awork: Callable[[], Awaitable[None]]) -> Node:
    chain = ChatPromptTemplate.from_template("{text}") | bench.llm | StrOutputParser()

    def node(state: State) -> Any:
        for number, _ in enumerate(chain.stream({"text": LONG})):
            if number == 3:
                work()
        return DONE

    return node


def by_async_chain(bench: Bench, work: Callable[[], None], awork: Callable[[], Awaitable[None]]) -> Node:
    chain = ChatPromptTemplate.from_template("{text}") | bench.llm | StrOutputParser()

    async def node(state: State) -> Any:
        number = 0
        async for _ in chain.astream({"text": LONG}):
            if number == 3:
                await awork()
            number += 1
        return DONE

    return node


TALKS = [by_sdk, by_async_sdk, by_model, by_async_model, by_chain, by_async_chain]


@pytest.mark.parametrize("talk", TALKS)
async def test_work_between_pieces_is_not_the_calls(bench: Bench, talk: Talk) -> None:
    """A client that works between two pieces makes its call no longer; the time lies before what comes next."""
    graph = only(talk(bench, lambda: time.sleep(PAUSE_S), lambda: asyncio.sleep(PAUSE_S)))
    graph.add_node("next", bench.say("next"))
    graph.add_edge("node", "next")
    workflow = await bench.record(graph)
    call, after = workflow.calls
    assert call.succeeded
    assert call.end_ns - call.submit_ns < PAUSE_S * 1e9
    assert call.chunk_ns[-1] <= call.end_ns - call.submit_ns
    # Pieces that came while the machine was busy are read together: most were not.
    assert median(b - a for a, b in pairwise(call.chunk_ns[2:9])) > 5e6
    assert workflow.gaps_ns[after.id] > (PAUSE_S - 0.4) * 1e9
    assert begun_on(workflow) == {}
    assert readers() == []


@pytest.mark.parametrize("talk", TALKS)
async def test_call_on_part_of_an_answer(bench: Bench, talk: Talk) -> None:
    """What is sent between two pieces began on those that had been read, however the client is built."""

    def ask() -> None:
        bench.llm.invoke("then")

    async def aask() -> None:
        await bench.llm.ainvoke("then")

    workflow = await bench.record(only(talk(bench, ask, aask)))
    ((ends, tokens),) = begun_on(workflow).items()
    assert ends == (LONG.rpartition(" ")[0], "then")
    assert tokens is not None and 2 <= tokens <= 6
    assert len(workflow.edges) == 1
    then = workflow.calls[1]
    assert 0 <= workflow.gaps_ns[then.id] < 0.1e9


@pytest.mark.parametrize("talk", TALKS)
async def test_work_in_the_background_of_a_stream(bench: Bench, talk: Talk) -> None:
    """What a client starts beside a stream, on part of it, began on that part, whoever runs it."""
    pool = ThreadPoolExecutor(1)
    started: list[Any] = []

    async def ask() -> None:
        started.append(asyncio.create_task(bench.llm.ainvoke("then")))

    node = talk(bench, lambda: started.append(pool.submit(bench.llm.invoke, "then")), ask)

    def waited(state: State) -> Any:
        found = node(state)
        started[0].result()
        return found

    async def awaited(state: State) -> Any:
        found = await node(state)
        await started[0]
        return found

    workflow = await bench.record(only(awaited if "async" in talk.__name__ else waited))
    ((ends, tokens),) = begun_on(workflow).items()
    assert ends == (LONG.rpartition(" ")[0], "then")
    assert tokens is not None and 2 <= tokens <= 7
    pool.shutdown()


@pytest.mark.parametrize("mode", ["gather", "threads", "parallel", "model"])
async def test_streams_side_by_side_are_not_dependent(bench: Bench, mode: str) -> None:
    """Answers read at the same time by tasks or threads of their own began on no part of each other."""
    client = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)
    texts = [f"{number} {LONG}" for number in range(3)]

    async def read(text: str) -> None:
        if mode == "gather":
            async for _ in await client.chat.completions.create(**said(text, stream=True)):
                pass
        else:
            async for _ in bench.llm.astream(text):
                pass
        await bench.llm.ainvoke(f"after {text}")

    async def node(state: State) -> Any:
        if mode == "parallel":
            chain = ChatPromptTemplate.from_template("{text}") | bench.llm
            branches: Any = RunnableParallel({text[0]: (lambda x, t=text: {"text": t}) | chain for text in texts})
            async for _ in branches.astream({}):
                pass
        else:
            await asyncio.gather(*map(read, texts))
        return DONE

    def threaded(state: State) -> Any:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda text: [bench.llm.invoke(str(len(list(bench.llm.stream(text)))))], texts))
        return DONE

    workflow = await bench.record(only(threaded if mode == "threads" else node))
    assert len(workflow.calls) == (3 if mode == "parallel" else 6)
    assert begun_on(workflow) == {}


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_tools_and_graphs_on_part_of_an_answer(bench: Bench, mode: str) -> None:
    """A tool, or a graph's node, that a client runs between two pieces began on those that had been read."""

    @tool
    def look(word: str) -> str:
        """Looks a word up."""
        time.sleep(0.01)
        return word

    inner = only(lambda state: DONE).compile()

    def node(state: State) -> Any:
        for number, _ in enumerate(bench.llm.stream(LONG)):
            if number == 3:
                look.invoke({"word": "x"})
            if number == 5:
                inner.invoke(EMPTY)
        return DONE

    async def anode(state: State) -> Any:
        number = 0
        async for _ in bench.llm.astream(LONG):
            if number == 3:
                await look.ainvoke({"word": "x"})
            if number == 5:
                await inner.ainvoke(EMPTY)
            number += 1
        return DONE

    workflow = await bench.record(only(node if mode == "sync" else anode))
    stream = LONG.rpartition(" ")[0]
    found = begun_on(workflow)
    assert found.keys() == {(stream, "look"), (stream, "node")}
    assert (found[stream, "look"] or 0) < (found[stream, "node"] or 0)
    assert kinds(workflow)["look", "node"] == {"observed"}


async def test_what_comes_after_a_stream_waits_for_its_end(bench: Bench) -> None:
    """A call that is sent when the stream was read to its end, or closed, has an ordinary edge."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)

    def node(state: State) -> Any:
        with client.chat.completions.create(**said("read " + LONG, stream=True)) as stream:
            list(stream)
            client.chat.completions.create(**said("first"))
        with client.chat.completions.create(**said("closed " + LONG, stream=True)) as stream:
            next(stream)
        client.chat.completions.create(**said("second"))
        return DONE

    workflow = await bench.record(only(node))
    assert begun_on(workflow) == {}
    assert set(map(str, kinds(workflow).values())) == {"{'observed'}"}
    assert len(workflow.edges) == 3


@pytest.mark.parametrize("talks", ["sync", "async"])
async def test_only_a_client_that_waits_times_out(bench: Bench, talks: str) -> None:
    """A read timeout is about the time that the client waits for a piece, as it is without a recorder."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client, timeout=0.2)
    aclient = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client, timeout=0.2)
    errors: list[str] = []

    def node(state: State) -> Any:
        for busy_s in (0.35, 0.0):
            try:
                for _ in client.chat.completions.create(**said(f"{busy_s} GAP=0.3", stream=True)):
                    time.sleep(busy_s)
            except (openai.APITimeoutError, httpx2.ReadTimeout) as error:
                errors.append(f"{busy_s} {type(error).__name__}")
        return DONE

    async def anode(state: State) -> Any:
        for busy_s in (0.35, 0.0):
            try:
                async for _ in await aclient.chat.completions.create(**said(f"{busy_s} GAP=0.3", stream=True)):
                    await asyncio.sleep(busy_s)
            except (openai.APITimeoutError, httpx2.ReadTimeout) as error:
                errors.append(f"{busy_s} {type(error).__name__}")
        return DONE

    workflow = await bench.record(only(node if talks == "sync" else anode))
    assert [error.partition(" ")[0] for error in errors] == ["0.0"]
    assert [call.succeeded for call in workflow.calls] == [True, False]
    assert workflow.calls[1].error == "ReadTimeout: The read operation timed out"
    assert readers() == []


@pytest.mark.parametrize("talks", ["sync", "async"])
async def test_errors_come_in_their_place(bench: Bench, talks: str) -> None:
    """A stream that breaks gives the client all that came before, then the error that it would have seen anyway."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)
    aclient = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)
    words: list[str] = []

    def node(state: State) -> Any:
        with pytest.raises(httpx2.RemoteProtocolError):
            for piece in client.chat.completions.create(**said("CUT here GAP=0.01", stream=True)):
                words.append(piece.choices[0].delta.content or "")
                time.sleep(0.3)
        return DONE

    async def anode(state: State) -> Any:
        with pytest.raises(httpx2.RemoteProtocolError):
            async for piece in await aclient.chat.completions.create(**said("CUT here GAP=0.01", stream=True)):
                words.append(piece.choices[0].delta.content or "")
                await asyncio.sleep(0.3)
        return DONE

    (call,) = (await bench.record(only(node if talks == "sync" else anode))).calls
    assert "".join(words) == call.text == "echo CUT"
    assert call.error is not None and "incomplete chunked read" in call.error
    assert call.end_ns - call.submit_ns < 0.6e9


async def test_a_cancelled_reader_leaves_nothing_behind(bench: Bench) -> None:
    """A node that is cancelled in the middle of a stream ends its call there, and no task of the recorder's stays."""

    async def node(state: State) -> Any:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.08):
                async for _ in bench.llm.astream(" ".join(["word"] * 80) + " GAP=0.02"):
                    pass
        return DONE

    (call,) = (await bench.record(only(node))).calls
    assert not call.succeeded
    assert call.end_ns - call.submit_ns < 0.8e9
    await asyncio.sleep(0)
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "rejoule-reader"] == []


def test_a_transport_without_a_socket(bench: Bench) -> None:
    """Streams of any transport are read ahead; one that nothing can wake is let go all the same, at once."""
    began, release = time.monotonic(), threading.Event()

    class Slow(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
            release.wait(5)

    seen: list[str] = []

    class Watching:
        outgoing: Any

        def __init__(self, request: Request) -> None:
            inner = request.inner
            self.outgoing = Outgoing(request.url, list(inner.headers.items()), request.body, {}, False)

        def __getattr__(self, name: str) -> Any:
            return lambda *of: seen.append(name)

    transport = httpx2.MockTransport(
        lambda request: httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Slow())
    )
    with tapped(Watching), httpx2.Client(transport=transport) as http:
        client = openai.OpenAI(base_url="http://nowhere/v1", api_key="x", http_client=http)
        stream = client.chat.completions.create(**said("x", stream=True))
        next(stream)
        stream.close()
    assert time.monotonic() - began < 2
    assert seen[:3] == ["answered", "arrived", "taken"] and set(seen[3:]) == {"closed"}
    release.set()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_hook_that_reads_the_body(bench: Bench, stream: bool) -> None:
    """Where a hook of the HTTP client has read an answer before anyone, it is recorded as whole."""

    def read(response: Any) -> None:
        response.read()

    async def aread(response: Any) -> None:
        await response.aread()

    words: list[str] = []
    with httpx2.Client(event_hooks={"response": [read]}) as http:
        async with httpx2.AsyncClient(event_hooks={"response": [aread]}) as ahttp:
            llm = bench.model(http_client=http, http_async_client=ahttp)

            def node(state: State) -> Any:
                words.extend(piece.text for piece in llm.stream("hook")) if stream else llm.invoke("hook")
                return DONE

            async def anode(state: State) -> Any:
                words.extend([piece.text async for piece in llm.astream("hook")]) if stream else await llm.ainvoke("x")
                return DONE

            graph = only(node)
            graph.add_node("other", anode)
            graph.add_edge("node", "other")
            workflow = await bench.record(graph)
    assert [call.succeeded for call in workflow.calls] == [True, True]
    assert "".join(words) == ("echo hook" * 2 if stream else "")


def test_tokens_of_every_answer() -> None:
    """What had come is counted for each of several answers, by ids, by pieces, or in proportion to what was counted."""

    def body(*choices: dict[str, Any]) -> list[tuple[int, bytes]]:
        return [(at, b"data: " + json.dumps({"choices": [one]}).encode() + b"\n\n") for at, one in enumerate(choices)]

    def call(output_tokens: int | None) -> Call:
        return replace(made_call("w0000", "a", 0, 1), output_tokens=output_tokens)

    one, two = {"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}
    pieces = body({"index": 0, "delta": {"role": "assistant"}}, two, one, two, one, two)
    assert tokens_in(pieces, 1, [call(None), call(None)]) == [0, 0]
    assert tokens_in(pieces, 2, [call(None), call(None)]) == [0, 1]
    assert tokens_in(pieces, 5, [call(None), call(6)]) == [2, 4]
    assert tokens_in(body({"text": "a", "token_ids": [1, 2]}, {"text": "b", "token_ids": [3]}), 1, [call(3)]) == [2]
    assert tokens_in([(0, b"data: nonsense\n\n")], 1, [call(3)]) == []


@pytest.mark.parametrize("talk", [by_async_sdk, by_async_model])
async def test_work_that_holds_the_event_loop_up(bench: Bench, talk: Talk) -> None:
    """Pieces have the times at which they came, though the node kept the loop that should have read them busy."""

    async def busy() -> None:
        time.sleep(PAUSE_S)

    (call,) = (await bench.record(only(talk(bench, lambda: None, busy)))).calls
    assert call.succeeded
    assert call.end_ns - call.submit_ns < (PAUSE_S - 0.1) * 1e9
    assert list(call.chunk_ns) == sorted(call.chunk_ns)
    steps = [b - a for a, b in pairwise(call.chunk_ns[2:9])]
    assert max(steps) < PAUSE_S / 2 * 1e9
    assert median(steps) > 5e6

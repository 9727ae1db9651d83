"""Every attempt is recorded as what it was, and reaches the user's code as if nobody watched."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from langgraph.graph import START, StateGraph

from rejoule.graphs.capture import Recording, Rewrite
from rejoule.traces.model import Unrecorded, Workflow

from .bench import EMPTY, Bench, Node, State, as_bytes, edges, kinds


def only(node: Node) -> StateGraph[Any, Any, Any, Any]:
    """A graph of one node."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    return graph


async def test_plain_answer(bench: Bench) -> None:
    """A plain answer gives text, token ids, counts, and no chunks; the request is as the client sent it."""
    workflow = await bench.record(only(bench.say("hello")))
    (call,) = workflow.calls
    assert (call.text, call.finish_reason, call.status, call.error) == ("echo hello", "stop", 200, None)
    assert (call.prompt_token_ids, call.token_ids) == ((1, 2, 3, 4, 5), (0, 1))
    assert (call.prompt_tokens, call.cached_tokens, call.output_tokens) == (5, 4, 2)
    assert (call.first_token_ns, call.chunk_ns) == (None, ())
    assert call.request == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": False,
    }
    assert bench.witness.sightings[0].body["return_token_ids"] is True


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_stream_passes_through_at_once(bench: Bench, mode: str) -> None:
    """Chunks reach the user while the server still writes, and each one's arrival is kept."""
    prompt = "one two three GAP=0.02"
    arrived: list[float] = []

    def sync(state: State) -> dict[str, list[str]]:
        arrived.extend(time.monotonic() for _ in bench.llm.stream(prompt))
        return {"parts": []}

    async def unsync(state: State) -> dict[str, list[str]]:
        arrived.extend([time.monotonic() async for _ in bench.llm.astream(prompt)])
        return {"parts": []}

    workflow = await bench.record(only(sync if mode == "sync" else unsync))
    (call,) = workflow.calls
    ended = bench.witness.sightings[0].ended
    assert ended is not None and sum(at < ended for at in arrived) >= 4
    assert call.text == "echo " + prompt
    assert call.token_ids is not None and len(call.token_ids) == 6
    assert call.first_token_ns is not None
    assert call.submit_ns < call.first_token_ns < call.end_ns
    assert list(call.chunk_ns) == sorted(call.chunk_ns)
    assert len(call.chunk_ns) >= 7
    assert call.chunk_ns[-1] - call.chunk_ns[1] > 50e6
    assert call.succeeded


async def test_streamed_tool_calls_are_put_together(bench: Bench) -> None:
    """Arguments that arrive in pieces are whole in the trace, and counts come from ids where usage is missing."""
    client = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)
    tool = {"type": "function", "function": {"name": "look", "parameters": {"properties": {"x": {"type": "string"}}}}}

    async def node(state: State) -> dict[str, list[str]]:
        stream: Any = await client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "PARALLEL=2 go"}],
            tools=[tool],  # type: ignore[list-item]
            stream=True,
        )
        async for _ in stream:
            pass
        return {"parts": []}

    (call,) = (await bench.record(only(node))).calls
    assert [t["function"] for t in call.tool_calls] == [
        {"name": "look", "arguments": '{"x": "0"}'},
        {"name": "look", "arguments": '{"x": "1"}'},
    ]
    assert (call.text, call.finish_reason) == (None, "tool_calls")
    assert (call.prompt_tokens, call.output_tokens) == (2, 5)


async def test_raw_sdk_beside_langchain(bench: Bench) -> None:
    """Calls of the SDK itself and of LangChain are placed alike, chat and plain completions."""
    raw = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)
    araw = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)

    def first(state: State) -> dict[str, list[str]]:
        bench.llm.invoke("chain")
        raw.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "raw"}])
        return {"parts": []}

    async def second(state: State) -> dict[str, list[str]]:
        await araw.completions.create(model="tiny", prompt="plain")
        return {"parts": []}

    graph = only(first)
    graph.add_node("second", second)
    graph.add_edge("node", "second")
    workflow = await bench.record(graph)
    assert edges(workflow, "trigger") == [("chain", "raw"), ("raw", "plain")]
    assert [call.endpoint for call in workflow.calls] == ["chat", "chat", "completions"]
    assert workflow.calls[2].text == "echo plain"


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
async def test_both_http_libraries(bench: Bench, library: str) -> None:
    """Clients on either HTTP library that the SDK has used are seen."""
    module = pytest.importorskip(library)
    with module.Client() as client:
        llm = bench.model(http_client=client)
        workflow = await bench.record(only(lambda state: {"parts": [llm.invoke("hi").text]}))
    assert workflow.calls[0].text == "echo hi"


async def test_http_retry_is_two_calls(bench: Bench) -> None:
    """The SDK's retry is an attempt of its own, after the one that failed."""
    workflow = await bench.record(only(bench.say("FAIL once")))
    assert [(call.attempt, call.status) for call in workflow.calls] == [(0, 500), (1, 200)]
    assert workflow.calls[0].error == "boom for Bearer [key]"
    assert kinds(workflow) == {("FAIL once", "FAIL once"): {"observed"}}
    assert workflow.status == "done"


async def test_failed_call_that_the_node_survives(bench: Bench) -> None:
    """A call that fails for good is kept, and what the node did next comes after it."""
    llm = bench.model(max_retries=0)

    def node(state: State) -> dict[str, list[str]]:
        with pytest.raises(openai.InternalServerError):
            llm.invoke("BROKEN")
        return {"parts": [llm.invoke("recover").text]}

    workflow = await bench.record(only(node))
    assert edges(workflow, "trigger") == [("BROKEN", "recover")]
    assert [call.succeeded for call in workflow.calls] == [False, True]


async def test_failed_workflow_is_recorded(bench: Bench) -> None:
    """A workflow that dies is recorded as failed, with its error and everything up to it."""
    graph = only(bench.say("first"))
    graph.add_node("dies", lambda state: bench.model(max_retries=0).invoke("BROKEN"))
    graph.add_edge("node", "dies")
    workflow = await bench.record(graph)
    assert workflow.status == "failed"
    assert workflow.error is not None and "Error code: 500" in workflow.error
    assert edges(workflow, "barrier") == [("first", "BROKEN")]
    assert [(task.node, bool(task.error)) for task in workflow.tasks] == [("node", False), ("dies", True)]


async def test_timeout(bench: Bench) -> None:
    """A call that the client gave up on has no status, and says so."""
    llm = bench.model(max_retries=0, timeout=0.5)

    async def node(state: State) -> dict[str, list[str]]:
        with pytest.raises(openai.APITimeoutError):
            await llm.ainvoke("SLEEP=5 late")
        return {"parts": []}

    (call,) = (await bench.record(only(node))).calls
    assert call.status is None
    assert call.error is not None and call.error.endswith("Timeout")


async def test_cancelled_call(bench: Bench) -> None:
    """A call that was cancelled is recorded as such."""

    async def node(state: State) -> dict[str, list[str]]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await bench.llm.ainvoke("SLEEP=5 late")
        return {"parts": []}

    (call,) = (await bench.record(only(node))).calls
    assert (call.status, call.error) == (None, "CancelledError")


async def test_stream_that_the_server_cuts(bench: Bench) -> None:
    """What came before the cut is kept, with the error."""

    async def node(state: State) -> dict[str, list[str]]:
        with pytest.raises(httpx2.RemoteProtocolError):
            async for _ in bench.llm.astream("CUT after two words"):
                pass
        return {"parts": []}

    (call,) = (await bench.record(only(node))).calls
    assert call.text == "echo CUT"
    assert call.error is not None and call.error.startswith("RemoteProtocolError")


async def test_stream_that_the_client_leaves(bench: Bench) -> None:
    """A stream that the user's code stopped reading is no success."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client)

    def node(state: State) -> dict[str, list[str]]:
        with client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "a b c d GAP=0.02"}], stream=True
        ) as stream:
            for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
        return {"parts": []}

    (call,) = (await bench.record(only(node))).calls
    assert call.text == "echo"
    assert call.error == "the client closed the stream before its end"


async def test_stream_passed_from_hand_to_hand(bench: Bench) -> None:
    """A call still under way when the workflow ends is closed then."""
    client = openai.AsyncOpenAI(base_url=bench.witness.base_url, http_client=bench.async_client)
    kept: list[Any] = []

    async def node(state: State) -> dict[str, list[str]]:
        stream = await client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "GAP=0.5 a b c"}], stream=True
        )
        kept.append(stream)
        return {"parts": []}

    (call,) = (await bench.record(only(node))).calls
    assert call.error == "unfinished when the workflow ended"
    await kept[0].close()


async def test_calls_elsewhere_come_to_the_server(bench: Bench) -> None:
    """A hard-wired host and model are replaced, and the user's key goes nowhere."""
    llm = bench.model(base_url="https://api.openai.com/v1", model="gpt-4o", api_key="sk-wired-into-the-file")
    workflow = await bench.record(only(lambda state: {"parts": [llm.invoke("hi").text]}))
    assert workflow.calls[0].request["model"] == "tiny"
    assert bench.witness.sightings[0].headers["authorization"] == "Bearer none"


async def test_keys_never_enter_the_trace(bench: Bench) -> None:
    """No key, and no header, is anywhere in what is recorded, not even where the server repeats it."""
    secret = "sk-secret-0123456789"
    llm = bench.model(api_key=secret, max_retries=1)

    def node(state: State) -> dict[str, list[str]]:
        llm.invoke("FAIL then")
        raise ValueError(f"it was {secret}")

    workflow = await bench.record(only(node))
    data = as_bytes(workflow)
    assert bench.witness.sightings[0].headers["authorization"] == f"Bearer {secret}"
    assert workflow.error == "ValueError: it was [key]"
    for word in (secret, "sk-users-own-key", "authorization", "x-stainless", "user-agent"):
        assert word.encode() not in data.lower()
    assert b"boom for Bearer [key]" in data


async def test_other_requests_pass_untouched(bench: Bench) -> None:
    """Requests to other hosts, and those that ask for no work, are neither changed nor recorded; other endpoints of the
    server are told."""
    client = openai.OpenAI(base_url=bench.witness.base_url, http_client=bench.client, max_retries=0)

    def node(state: State) -> dict[str, list[str]]:
        with pytest.raises(httpx2.ConnectError):
            httpx2.post("http://127.0.0.1:9/v1/chat/completions", json={"model": "else"})
        httpx2.get(f"{bench.witness.base_url}/models")
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="tiny", input="x")
        return {"parts": []}

    recording = bench.recording()
    with recording.watching():
        workflow = await recording.workflow(only(node).compile(), EMPTY)
    assert workflow.calls == ()
    assert recording.unrecorded == (Unrecorded("POST /v1/embeddings is not captured", 1, "w0000"),)


async def test_other_servers_are_named_by_their_address(bench: Bench) -> None:
    """What an SDK asks of another server is told with that server's host and port, and without a user or a query."""
    other = f"{urlsplit(bench.witness.base_url).hostname}:9"
    client = openai.OpenAI(base_url=f"http://me:secret@{other}/v1", http_client=bench.client, max_retries=0)

    def node(state: State) -> dict[str, list[str]]:
        with pytest.raises(openai.APIConnectionError):
            client.embeddings.create(model="tiny", input="x", extra_query={"key": "secret"})
        return {"parts": []}

    recording = bench.recording()
    with recording.watching():
        await recording.workflow(only(node).compile(), EMPTY)
    assert recording.unrecorded == (Unrecorded(f"POST http://{other}/v1/embeddings is not captured", 1, "w0000"),)


async def test_clients_without_the_sdks_mark(bench: Bench) -> None:
    """What goes to the server is recorded, though it is not the SDK that sends it."""

    async def node(state: State) -> dict[str, list[str]]:
        body = {"model": "else", "messages": [{"role": "user", "content": "by hand"}]}
        await bench.async_client.post(f"{bench.witness.base_url}/chat/completions", json=body)
        bench.client.post(f"{bench.witness.base_url}/completions", json={"model": "else", "prompt": "and again"})
        return {"parts": []}

    workflow = await bench.record(only(node))
    assert [(call.endpoint, call.text) for call in workflow.calls] == [
        ("chat", "echo by hand"), ("completions", "echo and again"),
    ]  # fmt: skip


async def test_nothing_is_asked_of_servers_that_do_not_know_it(bench: Bench) -> None:
    """A server that is neither vLLM nor ours is not asked for token ids."""
    recording = Recording(Rewrite(replace(bench.server, owned_by="acme")))
    with recording.watching():
        workflow = await recording.workflow(only(bench.say("hi")).compile(), EMPTY)
    assert "return_token_ids" not in bench.witness.sightings[0].body
    assert workflow.calls[0].token_ids is None
    assert workflow.calls[0].output_tokens == 2


async def test_after_a_recording_nothing_is_left(bench: Bench) -> None:
    """Once the last recording ends, the libraries are as before, in whatever order recordings end."""
    before = httpx2.Client.send, httpx2.AsyncClient.send
    first, second = bench.recording().watching(), bench.recording().watching()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert httpx2.Client.send is not before[0]
    second.__exit__(None, None, None)
    assert (httpx2.Client.send, httpx2.AsyncClient.send) == before


def texts(workflow: Workflow) -> list[str]:
    return [call.request["messages"][0]["content"] for call in workflow.calls]


async def test_workflows_side_by_side_are_kept_apart(bench: Bench) -> None:
    """Of many workflows at once, in one recording or two, each has its own calls."""

    def graph(name: str) -> Any:
        async def gather(state: State) -> dict[str, list[str]]:
            await asyncio.gather(*(bench.llm.ainvoke(f"{name} {i} SLEEP=0.02") for i in range(3)))
            return {"parts": []}

        built = only(gather)
        built.add_node("after", bench.say(f"{name} after"))
        built.add_edge("node", "after")
        return built.compile()

    one, two = bench.recording(), bench.recording()
    with one.watching(), two.watching():
        workflows = await asyncio.gather(
            *(
                recording.workflow(graph(f"{n}{i}"), EMPTY)
                for n, recording in (("a", one), ("b", two))
                for i in range(4)
            )
        )
    assert [w.id for w in workflows] == ["w0000", "w0001", "w0002", "w0003"] * 2
    for workflow, name in zip(workflows, ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"], strict=True):
        assert len(workflow.calls) == 4
        assert all(text.startswith(f"{name} ") for text in texts(workflow))
        assert len(edges(workflow, "trigger")) == 3

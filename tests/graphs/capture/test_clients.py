"""Whatever reaches the recording's URL is a call of its node, or is told."""

from __future__ import annotations

import asyncio
import http.client
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import requests

from rejoule.graphs.capture import Net, Recording, Rewrite, ServerInfo
from rejoule.graphs.record import record
from rejoule.traces.model import Header, Trace, Unrecorded, Workflow
from rejoule.traces.store import TraceWriter, load

from . import strangers
from .bench import EMPTY, Bench, edges, label
from .strangers import body, url
from .test_recording import chain

Send = Callable[[str], None]
NOWHERE = "POST /v1/chat/completions that no node was known to send"


@pytest.fixture
def net(bench: Bench) -> Iterator[Net]:
    with Net(bench.server) as net, net.info.environment(), warnings.catch_warnings():
        # Python warns of forks in processes with threads, which every recording has.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield net


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The strangers by a name under which new processes find them."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return import_module("strangers")


async def recorded(net: Net, bench: Bench, path: Path, nodes: Mapping[str, Callable[[], object]]) -> Trace:
    """Nodes one after another, recorded into a file, as it reads."""

    def node(work: Callable[[], object]) -> Any:
        def run(state: object) -> dict[str, list[str]]:
            work()
            return {"parts": []}

        return run

    graph = chain({name: node(work) for name, work in nodes.items()}).compile()
    with TraceWriter(path / "t.jsonl", Header(graph="g", model="tiny")) as writer:
        await record(graph, [EMPTY], server=bench.server, writer=writer, net=net)
    return load(path / "t.jsonl")


def placed(workflow: Workflow) -> list[tuple[str, str]]:
    return sorted((call.node, label(call)) for call in workflow.calls if call.succeeded)


@pytest.mark.parametrize(
    "send",
    [
        strangers.by_sdk, strangers.by_httpx, strangers.by_streamed_upload, strangers.by_requests, strangers.by_urllib,
        strangers.by_http_client, strangers.by_aiohttp, strangers.by_fork, strangers.by_grandchild,
        strangers.by_wired_sdk_in_a_fork,
    ],
    ids=lambda send: send.__name__,
)  # fmt: skip
async def test_any_client_is_placed(net: Net, bench: Bench, tmp_path: Path, send: Send) -> None:
    """Calls of any library, in this process and in forks of it, have their node and their edges, once each."""

    def twice() -> None:
        send("two")
        send("three")

    nodes = {"a": lambda: send("one"), "b": twice}
    trace = await recorded(net, bench, tmp_path, nodes)
    assert trace.unrecorded == ()
    assert placed(trace.workflows[0]) == [("a", "one"), ("b", "three"), ("b", "two")]
    assert edges(trace.workflows[0], "trigger") == [("one", "two"), ("two", "three")]
    assert len(bench.witness.sightings) == 3
    assert all("x-rejoule-place" not in seen.headers for seen in bench.witness.sightings)


@pytest.mark.parametrize("library", ["requests", "aiohttp"])
async def test_streams_left_open_by_any_client(net: Net, bench: Bench, tmp_path: Path, library: str) -> None:
    """What follows a stream that is half read, in its node or after it, began on what had come."""
    kept: list[Any] = []
    slow = " ".join(["word"] * 60) + " GAP=0.2"

    async def parts() -> None:
        await strangers.part_by_aiohttp(f"first {slow}", kept)
        await strangers.part_by_aiohttp(f"second {slow}", kept)
        for answer, session in zip(kept[1::2], kept[::2], strict=True):
            answer.close()
            await session.close()

    def node() -> None:
        if library == "aiohttp":
            asyncio.run(parts())
        else:
            strangers.part_by_requests(f"first {slow}", kept)
            strangers.part_by_requests(f"second {slow}", kept)

    trace = await recorded(net, bench, tmp_path, {"a": node, "b": lambda: strangers.by_sdk("after")})
    (workflow,) = trace.workflows
    first, *rest = [(e.source[-4:], e.target[-4:], e.kind) for e in workflow.edges]
    assert first == ("c000", "c001", "streamed") and 1 <= (workflow.edges[0].tokens or 0) < 60
    if library == "requests":  # the other closes its streams before its node ends
        assert rest == [("c001", "c002", "streamed")]
        for answer in kept[::2]:
            answer.close()


@pytest.mark.parametrize("send", [strangers.by_program, strangers.by_program_with_url], ids=lambda send: send.__name__)
async def test_programs_are_placed(net: Net, bench: Bench, tmp_path: Path, send: Send) -> None:
    """Programs that a node runs have its place in the URL that they are given, by variable or by argument."""
    trace = await recorded(net, bench, tmp_path, {"a": lambda: send(""), "b": lambda: strangers.by_sdk("after")})
    assert placed(trace.workflows[0]) == [("a", "program"), ("b", "after")]
    assert [seen.path for seen in bench.witness.sightings] == ["/v1/chat/completions"] * 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
async def test_workers_used_by_several_nodes(
    net: Net, bench: Bench, tmp_path: Path, importable: Any, method: str
) -> None:
    """What a pool of processes does belongs to the node that handed it over, not to the one that made the pool."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        nodes = {
            "a": lambda: list(pool.map(importable.by_sdk, ["one"])),
            "b": lambda: pool.submit(importable.by_requests, "two").result(),
        }
        trace = await recorded(net, bench, tmp_path, nodes)
    assert (placed(trace.workflows[0]), trace.unrecorded) == ([("a", "one"), ("b", "two")], ())


@pytest.mark.parametrize("kind", [multiprocessing.get_context("fork").Pool, ThreadPool], ids=["processes", "threads"])
async def test_multiprocessing_pools(net: Net, bench: Bench, tmp_path: Path, kind: Any) -> None:
    """The same of multiprocessing's own pools, of processes and of threads."""
    made: list[Any] = []

    def make() -> None:
        made.append(kind(2))
        made[0].map(strangers.by_sdk, ["one", "two"])

    nodes = {
        "a": make,
        "b": lambda: list(made[0].imap(strangers.by_sdk, ["three"])),
        "c": lambda: made[0].apply(strangers.by_httpx, ("four",)),
    }
    try:
        trace = await recorded(net, bench, tmp_path, nodes)
    finally:
        made[0].terminate()
        made[0].join()
    assert placed(trace.workflows[0]) == [("a", "one"), ("a", "two"), ("b", "three"), ("c", "four")]


@pytest.mark.parametrize("method", ["fork", "spawn"])
async def test_processes(net: Net, bench: Bench, tmp_path: Path, importable: Any, method: str) -> None:
    """A process that a node starts has the node's place."""

    def start() -> None:
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=importable.by_httpx, args=("one",))
        process.start()
        process.join()

    assert placed((await recorded(net, bench, tmp_path, {"a": start})).workflows[0]) == [("a", "one")]


async def test_worker_that_outlives_its_node_is_told(net: Net, bench: Bench, tmp_path: Path) -> None:
    """Nobody knows for whom a process works once the node that started it has ended."""
    read, write = os.pipe()

    def start() -> None:
        if not os.fork():
            os.read(read, 1)
            strangers.by_requests("late")
            os._exit(0)

    nodes = {"a": start, "b": lambda: (os.write(write, b"x"), os.wait())}
    trace = await recorded(net, bench, tmp_path, nodes)
    os.close(read)
    os.close(write)
    what = "POST /v1/chat/completions of a process that outlived the node that started it"
    assert trace.unrecorded == (Unrecorded(what, 1, "w0000"),)


async def test_what_a_fork_does_never_reaches_the_file(net: Net, bench: Bench, tmp_path: Path) -> None:
    """A child that leaves by the front door of everything neither writes nor removes the parent's trace."""
    path = tmp_path / "t.jsonl"
    with TraceWriter(path, Header(graph="g", model="tiny")) as writer:
        if not (child := os.fork()):
            writer.tell([Unrecorded("a child's", 1)])
            writer.__exit__(ValueError, ValueError(), None)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert load(path).unrecorded == ()


async def test_the_rest_is_told(net: Net, bench: Bench, tmp_path: Path) -> None:
    """Endpoints that are not captured, and clients that nobody knows, are counted, with their workflow where it is
    known; what came before the first workflow too."""
    strangers.by_requests("import")
    nodes = {
        "a": lambda: requests.post(f"{url()}/embeddings", json={}),
        "b": lambda: strangers.by_socket("raw"),
        "c": lambda: (requests.get(f"{url()}/models"), requests.post(f"{url()}/responses", json={})),
    }
    trace = await recorded(net, bench, tmp_path, nodes)
    assert {(u.what, u.requests, u.workflow) for u in trace.unrecorded} == {
        (NOWHERE, 1, None),
        ("POST /v1/chat/completions before the first workflow", 1, None),
        ("POST /v1/embeddings is not captured", 1, "w0000"),
        ("POST /v1/responses is not captured", 1, "w0000"),
    }


@pytest.mark.parametrize("send", [strangers.by_requests, strangers.by_aiohttp, strangers.by_httpx, strangers.by_fork])
async def test_the_servers_own_address(
    net: Net, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, send: Send
) -> None:
    """A client that has the server's own address written in is seen all the same."""
    monkeypatch.setenv("OPENAI_BASE_URL", bench.witness.base_url.replace("127.0.0.1", "localhost"))
    trace = await recorded(net, bench, tmp_path, {"a": lambda: send("one")})
    assert (placed(trace.workflows[0]), trace.unrecorded) == ([("a", "one")], ())


async def test_encrypted_requests_past_the_net(tmp_path: Path) -> None:
    """What is encrypted for the server's own address cannot be turned round, and is told."""
    server = ServerInfo("https://127.0.0.1:9/v1")

    def past(state: object) -> None:
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPSConnection("127.0.0.1", 9).request("POST", "/v1/chat/completions", "{}")

    with Net(server) as net, TraceWriter(tmp_path / "t.jsonl", Header(graph="g", model="tiny")) as writer:
        await record(chain({"a": past}).compile(), [EMPTY], server=server, writer=writer, net=net)
    what = "POST /v1/chat/completions of a client that encrypts it for the server's own address"
    assert load(tmp_path / "t.jsonl").unrecorded == (Unrecorded(what, 1, "w0000"),)


async def test_the_net_passes_bytes_as_they_come(net: Net, bench: Bench) -> None:
    """Pieces of a stream reach the client while the server still writes, and a client that leaves is not waited for."""
    async with aiohttp.ClientSession() as session:
        asked = body("one two three four GAP=0.05", stream=True)
        async with session.post(f"{net.info.base_url}/chat/completions", json=asked) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            arrived = [time.monotonic() async for _ in answer.content.iter_any()]
        assert arrived[-1] - arrived[0] > 0.1
        with pytest.raises(TimeoutError):
            patience = aiohttp.ClientTimeout(total=0.2)
            await session.post(f"{net.info.base_url}/chat/completions", json=body("SLEEP=9"), timeout=patience)


async def test_server_that_is_gone_is_gone_for_the_client() -> None:
    """Where no server answers, the connection breaks, as it would without the net."""
    with Net(ServerInfo("http://127.0.0.1:9/v1")) as net:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await session.post(f"{net.info.base_url}/chat/completions", json={})


async def test_two_recordings_keep_their_own(net: Net, bench: Bench) -> None:
    """A place of one recording means nothing to another."""
    one, two = (Recording(Rewrite(bench.server, net=net.owner.net), net=net) for _ in range(2))

    async def run(recording: Recording, then: Sequence[Recording]) -> None:
        graph = chain({"a": lambda state: strangers.by_requests("x")}).compile()
        with recording.watching():
            for other in then:
                net.reached = other._reached
            await recording.workflow(graph, EMPTY)

    await run(one, [two])
    assert two.unrecorded == (Unrecorded(NOWHERE, 1),)

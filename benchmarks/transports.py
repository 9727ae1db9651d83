"""Several ways to send requests and read streamed answers, on one load: which costs the client least?

    python -m benchmarks.client --transports

Every way does the same: keeps its connections, reads server-sent events, and finds first token, finish reason and
usage in them with the same decoder. Prints CPU and rate of each, medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from importlib import import_module
from statistics import median
from subprocess import PIPE, Popen, run
from typing import Any
from urllib.parse import urlsplit

from rejoule.replay.engines.completion import Completion
from rejoule.replay.engines.wire import Wire

BODY = json.dumps(
    {
        "model": "mock-model",
        "messages": [{"role": "user", "content": "hello " * 32}],
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
).encode()
PATH = "/v1/chat/completions"
Client = Callable[[], Awaitable[Completion]]


async def workers(count: int, concurrency: int, one: Client) -> None:
    turns = iter(range(count))

    async def work() -> None:
        for _ in turns:
            answer = await one()
            assert answer.started and answer.finish_reason == "length" and answer.output_tokens == 8

    await asyncio.gather(*[work() for _ in range(concurrency)])


async def use_wire(url: str, count: int, concurrency: int) -> None:
    wire = Wire(url)

    async def one() -> Completion:
        said = Completion()
        request = wire.request(PATH, BODY, said)
        await request.send()
        await request.answer()
        return said

    await workers(count, concurrency, one)
    await wire.close()


async def use_aiohttp(url: str, count: int, concurrency: int) -> None:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

        async def one() -> Completion:
            said = Completion()
            async with http.post(url + PATH, data=BODY, headers={"Content-Type": "application/json"}) as answer:
                async for piece in answer.content.iter_any():
                    said.feed(piece, time.monotonic())
            return said

        await workers(count, concurrency, one)


async def use_httpx2(url: str, count: int, concurrency: int) -> None:
    import httpx2

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(limits=limits, timeout=None) as http:

        async def one() -> Completion:
            said = Completion()
            headers = {"Content-Type": "application/json"}
            async with http.stream("POST", url + PATH, content=BODY, headers=headers) as answer:
                async for piece in answer.aiter_raw():
                    said.feed(piece, time.monotonic())
            return said

        await workers(count, concurrency, one)


def request(url: str) -> bytes:
    host = urlsplit(url).netloc.encode()
    head = b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (PATH.encode(), host, len(BODY)) + BODY


async def use_h11(url: str, count: int, concurrency: int) -> None:
    h11: Any = import_module("h11")
    where = urlsplit(url)
    idle: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter, Any]] = deque()

    async def one() -> Completion:
        if idle:
            reader, writer, http = idle.popleft()
        else:
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            http = h11.Connection(h11.CLIENT)
        said = Completion()
        headers = [("Host", where.netloc), ("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))]
        for event in (h11.Request(method="POST", target=PATH, headers=headers), h11.Data(BODY), h11.EndOfMessage()):
            writer.write(http.send(event) or b"")
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(1 << 16))
            elif isinstance(event, h11.Data):
                said.feed(bytes(event.data), time.monotonic())
            elif isinstance(event, h11.EndOfMessage):
                break
        http.start_next_cycle()
        idle.append((reader, writer, http))
        return said

    await workers(count, concurrency, one)


class Parsed(asyncio.Protocol):
    """A connection whose answers httptools parses."""

    def __init__(self) -> None:
        self.make = import_module("httptools").HttpResponseParser

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def begin(self, data: bytes, said: Completion) -> asyncio.Future[None]:
        self.said, self.parser = said, self.make(self)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        return self.done

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        self.said.feed(piece, time.monotonic())

    def on_message_complete(self) -> None:
        self.done.set_result(None)


async def use_httptools(url: str, count: int, concurrency: int) -> None:
    where, idle, data = urlsplit(url), deque[Parsed](), request(url)
    host, port = where.hostname or "", where.port or 80

    async def one() -> Completion:
        if idle:
            connection = idle.popleft()
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(Parsed, host, port)
        said = Completion()
        await connection.begin(data, said)
        idle.append(connection)
        return said

    await workers(count, concurrency, one)


WAYS: dict[str, Callable[[str, int, int], Coroutine[Any, Any, None]]] = {
    "aiohttp": use_aiohttp,
    "httpx2": use_httpx2,
    "asyncio streams, h11": use_h11,
    "asyncio protocol, httptools": use_httptools,
    "asyncio protocol, own reader (chosen)": use_wire,
}


def measure(way: str, url: str, count: int, concurrency: int) -> None:
    """One way, in a process of its own; prints CPU seconds, wall seconds and peak memory."""
    import resource

    began, cpu_s = time.monotonic(), time.process_time()
    asyncio.run(WAYS[way](url, count, concurrency))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.process_time() - cpu_s, time.monotonic() - began, peak_mb)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--requests", type=int, default=4000)
    options.add_argument("--concurrency", type=int, default=32)
    options.add_argument("--between-ms", default="0", help="time between the tokens of an answer")
    options.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        way, loop, url = given.one
        if loop == "uvloop":
            import_module("uvloop").install()
        measure(way, url, given.requests, given.concurrency)
        return
    print(table(given.rounds, given.requests, given.concurrency, given.between_ms))


def table(rounds: int, requests: int, concurrency: int, between_ms: str = "0") -> str:
    """The comparison, as a Markdown table."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    serve = [sys.executable, "benchmarks/mock_server.py", "--between-ms", between_ms]
    with Popen(serve, stdout=PIPE) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        try:
            for _ in range(rounds):
                for way in WAYS:
                    for loop in ("asyncio", "uvloop"):
                        sizes = ["--requests", str(requests), "--concurrency", str(concurrency)]
                        command = [sys.executable, "-m", "benchmarks.transports", *sizes, "--one", way, loop, url]
                        out = run(command, check=True, stdout=PIPE).stdout
                        found.setdefault((way, loop), []).append([float(v) for v in out.split()])
        finally:
            server.terminate()
    lines = ["| transport | loop | CPU ms a request | requests/s | peak MB |", "|---|---|---|---|---|"]
    for (way, loop), rows in found.items():
        cpu = sorted(row[0] / requests * 1e3 for row in rows)
        rate = sorted(requests / row[1] for row in rows)
        peak = median(row[2] for row in rows)
        lines.append(
            f"| {way} | {loop} | {median(cpu):.3f} [{cpu[0]:.3f}–{cpu[-1]:.3f}] "
            f"| {median(rate):.0f} [{rate[0]:.0f}–{rate[-1]:.0f}] | {peak:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

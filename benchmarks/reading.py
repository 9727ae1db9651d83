"""What it costs a client that streams answers are read ahead of it, as `rejoule record` does.

    python -m benchmarks.reading

OpenAI's SDK streams answers of 64 tokens from the mock server, 8 at a time, as it is and while it is recorded. Prints
CPU of the client and time of an answer, medians of interleaved rounds with their range. The CPU is that of the whole
process, so what the reading costs beside the client is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from subprocess import PIPE, Popen
from typing import Any

import openai

from rejoule.graphs.capture.rewrite import Outgoing
from rejoule.graphs.capture.wire import Request, tapped

AT_A_TIME = 8
ASKED: dict[str, Any] = {
    "model": "mock-model",
    "messages": [{"role": "user", "content": "hello " * 32}],
    "max_tokens": 64,
    "stream": True,
}


@dataclass
class Stamps:
    """Stamps pieces, as a recorded call does."""

    outgoing: Outgoing
    pieces: list[tuple[int, bytes]] = field(default_factory=list)

    def answered(self, status: int, streamed: bool) -> None: ...

    def arrived(self, piece: bytes, ago_ns: int = 0) -> None:
        self.pieces.append((time.monotonic_ns() - ago_ns, piece))

    def taken(self) -> None: ...

    def ended(self) -> None: ...

    def broke(self, error: BaseException) -> None: ...

    def closed(self) -> None: ...


def watch(request: Request) -> Stamps:
    return Stamps(Outgoing(request.url, request.headers, request.body, {}, False))


def with_threads(url: str, count: int) -> list[float]:
    """Seconds of every answer, read by the synchronous client in threads."""
    client = openai.OpenAI(base_url=url, api_key="x")

    def one(_: int) -> float:
        began = time.monotonic()
        assert sum(1 for _ in client.chat.completions.create(**ASKED)) >= ASKED["max_tokens"]
        return time.monotonic() - began

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(one, range(count)))


def with_tasks(url: str, count: int) -> list[float]:
    """The same by the asynchronous client in tasks."""

    async def run() -> list[float]:
        client, turns, took = openai.AsyncOpenAI(base_url=url, api_key="x"), iter(range(count)), list[float]()

        async def work() -> None:
            for _ in turns:
                began, pieces = time.monotonic(), 0
                async for _ in await client.chat.completions.create(**ASKED):
                    pieces += 1
                assert pieces >= ASKED["max_tokens"]
                took.append(time.monotonic() - began)

        await asyncio.gather(*[work() for _ in range(AT_A_TIME)])
        await client.close()
        return took

    return asyncio.run(run())


CLIENTS: dict[str, Callable[[str, int], list[float]]] = {"threads": with_threads, "tasks": with_tasks}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--requests", type=int, default=200)
    given = options.parse_args()
    print("| ms between tokens | client | recorded | CPU ms an answer | ms an answer |\n|---|---|---|---|---|")
    for between_ms in ("0", "10"):
        serve = [sys.executable, "benchmarks/mock_server.py", "--tokens", "64", "--between-ms", between_ms]
        with Popen(serve, stdout=PIPE) as server:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            found: dict[tuple[str, str], list[tuple[float, float]]] = {}
            try:
                for _ in range(given.rounds):
                    for client, use in CLIENTS.items():
                        for recorded in ("no", "yes"):
                            with ExitStack() as open_:
                                if recorded == "yes":
                                    open_.enter_context(tapped(watch))
                                cpu_s = time.process_time()
                                took_s = use(url, given.requests)
                                cpu_s = time.process_time() - cpu_s
                            row = cpu_s / given.requests * 1e3, median(took_s) * 1e3
                            found.setdefault((client, recorded), []).append(row)
            finally:
                server.terminate()
        for (client, recorded), rows in found.items():
            cells = (f"{median(c):.1f} [{min(c):.1f}–{max(c):.1f}]" for c in zip(*rows, strict=True))
            print(f"| {between_ms} | {client} | {recorded} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

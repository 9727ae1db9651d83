"""The least that a client of this kind can do: it sends, reads every event, and writes one line an answer.

python benchmarks/floor.py http://127.0.0.1:8123 10000 32
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from time import perf_counter_ns

import aiohttp

BODY = {
    "model": "mock-model",
    "messages": [{"role": "user", "content": "hello " * 32}],
    "max_tokens": 8,
    "stream": True,
    "stream_options": {"include_usage": True},
}


async def main(url: str, count: int, concurrency: int) -> None:
    turns = iter(range(count))
    with Path(os.devnull).open("w") as out:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as http:

            async def client() -> None:
                for i in turns:
                    began, times, usage = perf_counter_ns(), list[int](), None
                    async with http.post(f"{url}/v1/chat/completions", json=BODY) as answer:
                        async for line in answer.content:
                            if line.startswith(b"data: ") and not line.startswith(b"data: [DONE]"):
                                event = json.loads(line[6:])
                                times.append(perf_counter_ns() - began)
                                usage = event.get("usage") or usage
                    out.write(json.dumps({"i": i, "began": began, "times": times, "usage": usage}) + "\n")

            await asyncio.gather(*[client() for _ in range(concurrency)])


if __name__ == "__main__":
    with suppress(ImportError):
        import_module("uvloop").install()
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

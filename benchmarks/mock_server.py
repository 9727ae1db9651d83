"""A server that costs almost nothing, so that a client's own cost is what is measured.

It speaks enough of OpenAI's interface for every client compared here, streams up to ``--tokens`` tokens at once, and
keeps with its own clock when each request had come in whole and when its answer had gone out.

    python benchmarks/mock_server.py --port 8123
    GET /stats      {"count", "arrivals_s", "ends_s", "connections", "most_in_flight", "cpu_s", "now_s"}
    GET /reset      forgets them
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from time import time
from typing import Any, cast

LENGTH = re.compile(rb"(?i)content-length:\s*(\d+)")
LIMIT = re.compile(rb'"max_(?:completion_|output_)?tokens"\s*:\s*(\d+)')
STREAM = re.compile(rb'"stream"\s*:\s*true')
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
MODEL = {"id": "mock-model", "object": "model", "created": 1, "owned_by": "vllm", "max_model_len": 131072}


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(kind: str, **fields: Any) -> bytes:
    """One server-sent event in a piece of its own, as vLLM sends them."""
    body = {"id": "c1", "object": kind, "created": 1, "model": "mock-model", **fields}
    return chunk(b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n")


def choice(kind: str, finish: str | None = None, **delta: Any) -> bytes:
    text = {"delta": delta} if "chat" in kind else {"text": delta.get("content", "")}
    return event(kind, choices=[{"index": 0, **text, "finish_reason": finish}])


CHAT, TEXT = "chat.completion.chunk", "text_completion"
FIRST = {CHAT: choice(CHAT, role="assistant", content=""), TEXT: b""}
TOKEN = {kind: choice(kind, content=" hello") for kind in (CHAT, TEXT)}
FINISH = {kind: choice(kind, "length") for kind in (CHAT, TEXT)}
DONE = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


@dataclass
class Seen:
    """What came in since the last reset."""

    arrivals_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


class Connection(asyncio.Protocol):
    """Answers one connection's requests, in order."""

    def __init__(self, seen: Seen, tokens: int, first_s: float, between_s: float) -> None:
        self.seen, self.tokens, self.first_s, self.between_s = seen, tokens, first_s, between_s
        self.buffer = bytearray()
        self.head: bytes | None = None
        self.missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.seen.connections += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            if self.head is None:
                end = self.buffer.find(b"\r\n\r\n")
                if end < 0:
                    return
                self.head = bytes(self.buffer[:end])
                del self.buffer[: end + 4]
                length = LENGTH.search(self.head)
                self.missing = int(length[1]) if length else 0
            if len(self.buffer) < self.missing:
                return
            head, body, self.head = self.head, bytes(self.buffer[: self.missing]), None
            del self.buffer[: self.missing]
            self.answer(head.split(b" ", 2)[1], body)

    def answer(self, path: bytes, body: bytes) -> None:
        if path.endswith(b"/completions"):
            self.complete(CHAT if b"chat" in path else TEXT, body)
        elif path == b"/stats":
            used = resource.getrusage(resource.RUSAGE_SELF)
            seen = vars(self.seen)
            count = len(self.seen.arrivals_s)
            self.reply({**seen, "count": count, "cpu_s": used.ru_utime + used.ru_stime, "now_s": time()})
        elif path == b"/reset":
            self.seen.__init__()  # type: ignore[misc]
            self.reply({})
        elif path == b"/v1/models":
            self.reply({"object": "list", "data": [MODEL]})
        elif path in (b"/health", b"/"):
            self.reply({})
        else:
            self.reply({"error": "not found"}, b"404 Not Found")

    def reply(self, body: object, status: bytes = b"200 OK") -> None:
        text = json.dumps(body).encode()
        kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text)
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + kind + text)

    def complete(self, kind: str, body: bytes) -> None:
        self.seen.arrivals_s.append(time())
        limit = LIMIT.search(body)
        tokens = min(int(limit[1]), self.tokens) if limit else self.tokens
        prompt = max(1, len(body) // 4)
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
        if not STREAM.search(body):
            text = " hello" * tokens
            said = {"message": {"role": "assistant", "content": text}} if kind == CHAT else {"text": text}
            self.reply({"id": "c1", "choices": [{"index": 0, "finish_reason": "length", **said}], "usage": usage})
            self.seen.ends_s.append(time())
            return
        self.seen.in_flight += 1
        self.seen.most_in_flight = max(self.seen.most_in_flight, self.seen.in_flight)
        tail = (FINISH[kind] if kind == CHAT else b"") + event(kind, choices=[], usage=usage) + DONE
        if self.first_s or self.between_s:
            asyncio.get_running_loop().call_later(self.first_s, self.token, kind, HEAD + FIRST[kind], tokens, tail)
            return
        self.transport.write(HEAD + FIRST[kind] + TOKEN[kind])
        for _ in range(tokens - 1):
            self.transport.write(TOKEN[kind])
        self.end(tail)

    def token(self, kind: str, before: bytes, left: int, tail: bytes) -> None:
        if left and not self.transport.is_closing():
            self.transport.write(before + TOKEN[kind])
            asyncio.get_running_loop().call_later(self.between_s, self.token, kind, b"", left - 1, tail)
        else:
            self.end(tail)

    def end(self, tail: bytes) -> None:
        self.transport.write(tail)
        self.seen.in_flight -= 1
        self.seen.ends_s.append(time())


async def serve(port: int, tokens: int, first_s: float, between_s: float) -> None:
    seen = Seen()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(seen, tokens, first_s, between_s), "127.0.0.1", port, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, default=0, help="0 takes a free one; it is printed")
    options.add_argument("--tokens", type=int, default=8, help="most tokens in an answer")
    options.add_argument("--first-ms", type=float, default=0.0, help="time to the first token")
    options.add_argument("--between-ms", type=float, default=0.0, help="time between tokens")
    given = options.parse_args()
    with suppress(ImportError):
        import_module("uvloop").install()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(given.port, given.tokens, given.first_ms / 1e3, given.between_ms / 1e3))


if __name__ == "__main__":
    main()

"""Servers that answer otherwise than OpenAI's interface says: what each sends, byte for byte."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

ESCAPES: Final = "\x1b]52;c;eA==\x1b\\\x1b[31m\u202e\x9b"
DEEP: Final = b"[" * 100_000


@dataclass(frozen=True, slots=True)
class Reply:
    """All bytes of an answer, with its head."""

    raw: bytes
    pause_s: float = 0.0
    """Between its pieces of ``piece`` bytes."""
    piece: int = 1 << 20
    reset: bool = False
    """Whether the connection is then cut hard."""


@dataclass(frozen=True, slots=True)
class Broken:
    """One kind of server."""

    name: str
    models: Reply
    chat: Reply


def answer(body: bytes, kind: str = "application/json", status: str = "200 OK", *more: str) -> Reply:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close", *more]
    return Reply("\r\n".join(head).encode() + b"\r\n\r\n" + body)


def raw(head: str, body: bytes = b"") -> Reply:
    return Reply(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)


def listing(*models: Any) -> bytes:
    return orjson.dumps({"object": "list", "data": list(models)})


MODELS: Final = answer(listing({"id": "m", "object": "model", "owned_by": "other"}))


def event(choice: Any = None, **more: Any) -> bytes:
    whole: dict[str, Any] = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    if choice is not None:
        whole["choices"] = [choice]
    return b"data: " + orjson.dumps(whole | more) + b"\n\n"


WORD: Final = event({"index": 0, "delta": {"content": "word "}, "finish_reason": None})
LAST: Final = event({"index": 0, "delta": {}, "finish_reason": "stop"})
USAGE: Final = event(usage={"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6})
DONE: Final = b"data: [DONE]\n\n"
SOUND: Final = WORD + LAST + USAGE + DONE


def stream(body: bytes, *more: str) -> Reply:
    head = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Connection: close", *more]
    return Reply("\r\n".join(head).encode() + b"\r\n\r\n" + body)


def with_usage(text: bytes) -> bytes:
    return WORD + LAST + b'data: {"choices":[],"usage":' + text + b"}\n\n" + DONE


def with_choice(choice: Any) -> bytes:
    return event(choice) + LAST + USAGE + DONE


def chunked(body: bytes) -> Reply:
    return raw("HTTP/1.1 200 OK\nContent-Type: text/event-stream\nTransfer-Encoding: chunked", body)


SOUND_SERVER: Final = Broken("sound", MODELS, stream(SOUND))

_OF_MODELS: Final[dict[str, Reply]] = {
    "no models": answer(listing()),
    "models are names": answer(listing("m")),
    "a model without a name": answer(listing({})),
    "a model named by a number": answer(listing({"id": 7})),
    "a model named by an escape sequence": answer(listing({"id": ESCAPES, "owned_by": ESCAPES, "root": ESCAPES})),
    "a model's name of 1 MB": answer(listing({"id": "m" * 10**6})),
    "a longest context of 31 digits": answer(b'{"data":[{"id":"m","max_model_len":' + b"9" * 31 + b"}]}"),
    "a longest context below 0": answer(listing({"id": "m", "max_model_len": -1})),
    "a root that is an object": answer(listing({"id": "m", "root": {"a": 1}})),
    "models are null": answer(b'{"data":null}'),
    "models are a list": answer(b"[]"),
    "models are empty": answer(b""),
    "models are no JSON": answer(b"{'data': []}"),
    "models are no UTF-8": answer(b'{"data":[{"id":"\xff"}]}'),
    "models nested deeply": answer(DEEP),
    "models are HTML": answer(b"<html>It works!</html>", "text/html"),
    "models are gzip": answer(gzip.compress(MODELS.raw), "application/json", "200 OK", "Content-Encoding: gzip"),
    "models are cut": raw("HTTP/1.1 200 OK\nContent-Length: 5000", b'{"data":'),
    "models in bad chunks": raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"zz\r\nabc"),
    "models of a length below 0": raw("HTTP/1.1 200 OK\nContent-Length: -5", b"{}"),
    "models of two lengths": raw("HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 7", b"{}"),
    "a head without end": Reply(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10**6),
    "a thousand headers": raw("HTTP/1.1 200 OK\n" + "\n".join(f"X-{i}: a" for i in range(1000)), b"{}"),
    "no HTTP": Reply(b"\x00\x01\x02hello\n"),
    "a greeting of SSH": Reply(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "an empty answer": Reply(b""),
    "cut hard": Reply(b"HTTP/1.1 200 OK\r\n", reset=True),
    "a status of 999": raw("HTTP/1.1 999 What\nContent-Length: 0"),
    "a status that is no number": raw("HTTP/1.1 OK OK\nContent-Length: 0"),
    "a redirect to itself": raw("HTTP/1.1 301 Moved\nLocation: /v1/models\nContent-Length: 0"),
    "a redirect to a file": raw("HTTP/1.1 302 Found\nLocation: file:///etc/passwd\nContent-Length: 0"),
    "401": answer(b'{"error":{"message":"bad key"}}', "application/json", "401 Unauthorized"),
    "503": answer(b"", "text/plain", "503 Service Unavailable"),
}

_OF_CHAT: Final[dict[str, Reply]] = {
    "counts of 31 digits": stream(with_usage(b'{"prompt_tokens":' + b"9" * 31 + b',"completion_tokens":1}')),
    "counts below 0": stream(with_usage(b'{"prompt_tokens":-5,"completion_tokens":-1}')),
    "counts that are fractions": stream(with_usage(b'{"prompt_tokens":5.5,"completion_tokens":1.5}')),
    "counts that are texts": stream(with_usage(b'{"prompt_tokens":"5","completion_tokens":"1"}')),
    "counts that are null": stream(with_usage(b'{"prompt_tokens":null,"completion_tokens":null}')),
    "counts beyond all numbers": stream(with_usage(b'{"prompt_tokens":1e400,"completion_tokens":1}')),
    "more cached than asked": stream(
        with_usage(b'{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":900}}')
    ),
    "details that are a list": stream(
        with_usage(b'{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":[1]}')
    ),
    "usage is a list": stream(with_usage(b"[]")),
    "usage is a text": stream(with_usage(b'"5"')),
    "content is a list": stream(with_choice({"index": 0, "delta": {"content": [{"type": "text", "text": "a"}]}})),
    "content is a number": stream(with_choice({"index": 0, "delta": {"content": 5}})),
    "content is an escape sequence": stream(with_choice({"index": 0, "delta": {"content": ESCAPES}})),
    "content is half a character": stream(
        b'data: {"choices":[{"index":0,"delta":{"content":"\\ud800"}}]}\n\n' + LAST + USAGE + DONE
    ),
    "content of 20 MB": stream(with_choice({"index": 0, "delta": {"content": "word " * (4 << 20)}})),
    "a delta is a list": stream(with_choice({"index": 0, "delta": []})),
    "a delta is null": stream(with_choice({"index": 0, "delta": None})),
    "no delta": stream(with_choice({"index": 0})),
    "no index": stream(with_choice({"delta": {"content": "a"}})),
    "an index of 10**9": stream(with_choice({"index": 10**9, "delta": {"content": "a"}})),
    "an index below 0": stream(with_choice({"index": -1, "delta": {"content": "a"}})),
    "choices are null": stream(event(choices=None) + SOUND),
    "choices are an object": stream(event(choices={"0": {}}) + SOUND),
    "choices hold null": stream(event(choices=[None]) + SOUND),
    "a hundred thousand choices": stream(event(choices=[{"index": i, "delta": {}} for i in range(100_000)]) + SOUND),
    "calls of tools are numbers": stream(with_choice({"index": 0, "delta": {"tool_calls": [5]}})),
    "calls of tools are a text": stream(with_choice({"index": 0, "delta": {"tool_calls": "f()"}})),
    "a reason to end that is a number": stream(event({"index": 0, "delta": {}, "finish_reason": 5}) + USAGE + DONE),
    "an error that is a list": stream(event(error=["a"]) + DONE),
    "an error that steers a terminal": stream(event(error={"message": ESCAPES}) + DONE),
    "an error in the middle": stream(WORD + event(error={"message": "out of memory", "code": 500})),
    "an event that is no JSON": stream(WORD + b"data: {oops\n\n" + LAST + DONE),
    "an event that is a number": stream(b"data: 5\n\n" + SOUND),
    "an event nested deeply": stream(b"data: " + DEEP + b"\n\n" + SOUND),
    "an event that is no UTF-8": stream(b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n' + SOUND),
    "two events in one": stream(WORD.rstrip() + b" " + WORD[6:] + LAST + DONE),
    "events in several lines": stream(b'data: {"choices":\ndata: []}\n\n' + SOUND),
    "lines that end in CR": stream(SOUND.replace(b"\n", b"\r")),
    "lines that end in CR LF": stream(SOUND.replace(b"\n", b"\r\n")),
    "a mark of byte order": stream(b"\xef\xbb\xbf" + SOUND),
    "comments and names": stream(b": ping\n\nevent: x\nid: 1\nretry: 5\n" + SOUND),
    "a NUL in it": stream(b"\x00" + SOUND),
    "the end first": stream(DONE + SOUND),
    "no end": stream(WORD + LAST + USAGE),
    "no reason to end": stream(WORD + USAGE + DONE),
    "no usage": stream(WORD + LAST + DONE),
    "nothing at all": stream(b""),
    "only the end": stream(DONE),
    "an event without an end": stream(b"data: " + b"a" * (20 << 20)),
    "fifty thousand events": stream(WORD * 50_000 + LAST + USAGE + DONE),
    "byte by byte": Reply(stream(SOUND).raw, pause_s=0.0005, piece=1),
    "silence after the head": Reply(stream(WORD).raw, pause_s=30.0, piece=len(stream(b"").raw)),
    "silence after a word": Reply(stream(WORD + LAST).raw, pause_s=30.0, piece=len(stream(WORD).raw)),
    "cut in an event": stream(WORD + LAST[:20]),
    "cut hard in an event": Reply(stream(WORD + LAST[:20]).raw, reset=True),
    "shorter than it says": stream(SOUND, "Content-Length: 100000"),
    "longer than it says": stream(SOUND, "Content-Length: 20"),
    "bad chunks": chunked(b"5\r\nabc"),
    "chunks of no number": chunked(b"xyz\r\n" + SOUND),
    "a chunk of 2**64 bytes": chunked(b"10000000000000000\r\n" + SOUND),
    "a chunk below 0": chunked(b"-5\r\n" + SOUND),
    "gzip": stream(gzip.compress(SOUND), "Content-Encoding: gzip"),
    "a whole answer": answer(orjson.dumps({"choices": [{"index": 0, "message": {"content": "a"}}]})),
    "HTML": answer(b"<html>", "text/html"),
    "204": raw("HTTP/1.1 204 No Content"),
    "400 of a list": answer(b'[{"message":"no"}]', "application/json", "400 Bad Request"),
    "429": answer(b'{"error":{"message":"slow down"}}', "application/json", "429 Too Many Requests", "Retry-After: 1"),
    "500 that steers a terminal": answer(ESCAPES.encode(), "text/plain", "500 Oops"),
    "500 of 20 MB": answer(b"x" * (20 << 20), "text/plain", "500 Oops"),
    "token ids that are texts": stream(with_choice({"index": 0, "delta": {"content": "a"}, "token_ids": ["a"]})),
    "token ids below 0": stream(with_choice({"index": 0, "delta": {"content": "a"}, "token_ids": [-1]})),
    "token ids of 31 digits": stream(
        b'data: {"choices":[{"index":0,"delta":{},"token_ids":[' + b"9" * 31 + b"]}]}\n\n" + SOUND
    ),
}

BROKEN: Final = (
    *(Broken(name, models, stream(SOUND)) for name, models in _OF_MODELS.items()),
    *(Broken(name, MODELS, chat) for name, chat in _OF_CHAT.items()),
)


@asynccontextmanager
async def serving(kind: Broken) -> AsyncIterator[str]:
    """The URL of such a server's API."""

    ends = (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(*ends):
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)
            if b"/models" in head.split(b"\r\n", 1)[0]:
                reply = kind.models
            elif head.startswith(b"POST"):
                reply = kind.chat
            else:
                reply = answer(b"", "text/plain", "404 Not Found")
            for at in range(0, len(reply.raw), reply.piece):
                writer.write(reply.raw[at : at + reply.piece])
                await writer.drain()
                if reply.pause_s:
                    await asyncio.sleep(reply.pause_s)
            if reply.reset:
                writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()

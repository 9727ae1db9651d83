"""The client's side of HTTP: every way an answer can come, in pieces of any size, and every way it can fail to."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from time import monotonic

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.engines.completion import Completion, error_text
from rejoule.replay.engines.http1 import ResponseReader
from rejoule.replay.engines.sse import EventStream
from rejoule.replay.engines.wire import Timeouts, Wire, WireError

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def pieces(text: bytes, cuts: Sequence[int]) -> list[bytes]:
    """A text cut at some places."""
    places = sorted({c % (len(text) + 1) for c in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(places)]


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts if p) + b"0\r\n\r\n"


def said(**fields: object) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def token(text: str | None, finish: str | None = None, **more: object) -> bytes:
    return said(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish, **more}])


ANSWER = (
    said(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]),
    token("hé"),
    b": keep-alive\n\n",
    token(' "finish_reason":"stop" 日本'),
    token(None, "length"),
    said(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}),
    b"data: [DONE]\n\n",
)


def is_answer(completion: Completion) -> bool:
    counts = completion.prompt_tokens, completion.cached_tokens, completion.output_tokens
    return completion.started and completion.finish_reason == "length" and counts == (9, 4, 3)


# ---- events


TEXTS = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=12)
FIELDS = st.tuples(st.sampled_from(["data", "", "event", "id"]), TEXTS)


@given(
    events=st.lists(st.lists(FIELDS, min_size=1, max_size=4), max_size=6),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    marked=st.booleans(),
    cuts=st.lists(st.integers(0, 10_000), max_size=20),
)
def test_events(events: list[list[tuple[str, str]]], end: str, marked: bool, cuts: list[int]) -> None:
    """Data comes out as it went in: whatever ends lines, whatever stands between, wherever the stream is cut."""
    lines = [line for event in events for line in (*(f"{name}: {value}" for name, value in event), "")]
    text = ("\ufeff" if marked else "") + "".join(line + end for line in lines)
    stream = EventStream()
    found = [data for piece in pieces(text.encode(), cuts) for data in stream.feed(piece)]
    # A carriage return at the very end stays open: a line feed might follow.
    found += stream.feed(b"\n") if text.endswith("\r") else []
    data = [[value for name, value in event if name == "data"] for event in events]
    assert found == ["\n".join(values).encode() for values in data if values]


def test_event_without_end() -> None:
    """An event that was cut is not given, and a field without a colon is an empty one."""
    assert EventStream().feed(b"data: a\n\ndata: b\n") == [b"a"]
    assert EventStream().feed(b"data\ndata\n\n") == [b"\n"]


# ---- what a completion says


@given(cuts=st.lists(st.integers(0, 2_000), max_size=30))
def test_completion(cuts: list[int]) -> None:
    """Finish reason, usage and the first token are found however the stream is cut, inside a character too."""
    completion = Completion()
    for at, piece in enumerate(pieces(b"".join(ANSWER), cuts)):
        completion.feed(piece, float(at))
    assert is_answer(completion) and completion.error is None


def test_first_token() -> None:
    """An empty delta that opens an answer is no token; text, reasoning, a tool call and ids are."""
    for delta, counts in (
        ({"role": "assistant", "content": ""}, False),
        ({"reasoning_content": "hm"}, True),
        ({"tool_calls": [{"index": 0}]}, True),
    ):
        completion = Completion()
        completion.feed(said(choices=[{"index": 0, "delta": delta}]), 1.0)
        assert completion.started is counts
    plain = Completion()
    plain.feed(said(choices=[{"text": " a", "token_ids": [7, 8]}]) + said(choices=[{"token_ids": [9]}]), 1.0)
    assert plain.started and plain.token_ids == [7, 8, 9]


def test_error_event() -> None:
    """An error that the server reports in the stream is the call's error, in the server's words."""
    completion = Completion()
    completion.feed(b"event: error\n" + said(error={"message": "out of blocks", "code": 500}), 0.0)
    assert completion.error == "out of blocks"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"message": "too long", "type": "BadRequestError", "code": 400}}', "too long"),
        (b'{"object": "error", "message": "no such model", "code": 404}', "no such model"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"error": "busy"}', "busy"),
        (b"<h1>Bad Gateway</h1>", "<h1>Bad Gateway</h1>"),
        (b'{"other": 1}', '{"other": 1}'),
        (b"", ""),
    ],
)
def test_error_text(body: bytes, text: str) -> None:
    """The sentence in an error's body is found in the forms that servers use, and anything else is shown."""
    assert error_text(body) == text


# ---- answers


@given(
    parts=st.lists(st.binary(max_size=40), max_size=6),
    framing=st.sampled_from(["chunked", "extended", "length", "close"]),
    cuts=st.lists(st.integers(0, 10_000), max_size=20),
)
def test_bodies(parts: list[bytes], framing: str, cuts: list[int]) -> None:
    """A body comes out whole in every framing, wherever the answer is cut."""
    body = b"".join(parts)
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
    text = {
        "chunked": early + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*parts),
        "extended": early
        + b"transfer-encoding:chunked\r\n\r\n"
        + b"".join(b"00%X;a=b\r\n%s\r\n" % (len(p), p) for p in parts if p)
        + b"0\r\nTrailer: x\r\n\r\n",
        "length": early + b"Content-Length: %d\r\n\r\n" % len(body) + body,
        "close": early + b"\r\n" + body,
    }[framing]
    reader = ResponseReader()
    found = b"".join(reader.feed(piece) for piece in pieces(text, cuts))
    assert reader.complete is (framing != "close") and reader.reusable is (framing != "close" or not reader.complete)
    reader.close()
    assert (found, reader.status, reader.complete) == (body, 200, True)


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 999 What\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"1_0\r\n",
        CHUNKED + b"2\r\nabcd\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    ],
)
def test_not_http(text: bytes) -> None:
    """What is not HTTP is refused at once."""
    with pytest.raises(ValueError, match=r"."):
        ResponseReader().feed(text)


# ---- a real peer


@asynccontextmanager
async def listening(peer: Peer, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await peer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls)
    async with server:
        host = "localhost" if tls else "127.0.0.1"
        yield f"{'https' if tls else 'http'}://{host}:{server.sockets[0].getsockname()[1]}"


async def received(reader: asyncio.StreamReader) -> bytes:
    """The body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    return await reader.readexactly(int(length or 0))


def answering(*answers: bytes) -> Peer:
    """A peer that answers each request of a connection with the next of these, then closes it."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await received(reader)
            writer.write(answer)
            await writer.drain()

    return peer


async def post(wire: Wire, body: bytes = b"{}") -> tuple[int, Completion, bytes]:
    completion = Completion()
    request = wire.request("/v1/chat/completions", body, completion)
    await request.send()
    await request.answer()
    assert request.sent_s <= request.end_s
    return request.status, completion, request.body


async def test_streams_and_lengths() -> None:
    """Chunked answers and those with a length are read over one kept connection."""
    body, connections = b"".join(ANSWER), [0]
    whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[0] += 1
        await answering(CHUNKED + chunked(*ANSWER), whole, whole)(reader, writer)

    async with listening(peer) as url:
        wire = Wire(url)
        answers = [await post(wire) for _ in range(3)]
        await wire.close()
    assert all(status == 200 and is_answer(completion) for status, completion, _ in answers)
    assert connections == [1] and wire.retries == 0


async def test_answer_to_the_end_of_the_connection() -> None:
    """An answer without a length ends where its connection does, which is not used again."""
    async with listening(answering(HEAD + b"\r\n" + b"".join(ANSWER))) as url:
        wire = Wire(url)
        assert is_answer((await post(wire))[1]) and is_answer((await post(wire))[1])
        await wire.close()


async def test_as_many_connections_as_calls() -> None:
    """No request waits for another's connection."""
    arrived, everybody = [0], asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await received(reader)
        arrived[0] += 1
        if arrived[0] == 150:
            everybody.set()
        await everybody.wait()
        writer.write(CHUNKED + chunked(*ANSWER))
        await writer.drain()

    async with listening(peer) as url:
        wire = Wire(url)
        assert all(is_answer(c) for _, c, _ in await asyncio.gather(*[post(wire) for _ in range(150)]))
        await wire.close()


async def test_error_status() -> None:
    """An answer that is an error keeps its status and its body, and the connection."""
    body = b'{"error": {"message": "too long", "code": 400}}'
    fault = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with listening(answering(fault, CHUNKED + chunked(*ANSWER))) as url:
        wire = Wire(url)
        status, completion, kept = await post(wire)
        assert (status, completion.started, error_text(kept)) == (400, False, "too long")
        assert is_answer((await post(wire))[1])
        await wire.close()


async def test_closed_while_idle() -> None:
    """A kept connection that the server closed meanwhile costs no call: the request goes out again, and is counted."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(CHUNKED + chunked(*ANSWER))(reader, writer)
        # The next request reaches a connection that nobody reads, which is what a server's idle limit looks like.
        await reader.read(1)
        writer.transport.abort()

    async with listening(once) as url:
        wire = Wire(url)
        assert all([is_answer((await post(wire))[1]) for _ in range(3)])
        await wire.close()
    assert wire.retries == 2


async def aborting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await received(reader)
    writer.transport.abort()


@pytest.mark.parametrize(
    ("peer", "what"),
    [
        (aborting, "cut"),
        (answering(CHUNKED + chunked(*ANSWER)[:-30]), "cut"),
        (answering(HEAD + b"Content-Length: 1000\r\n\r\ndata: "), "cut"),
        (answering(b"HTTP/1.1 2"), "cut"),
        (answering(b"SMTP hello\r\n"), "malformed answer: not an HTTP answer"),
        (answering(CHUNKED + chunked(b"data: {nonsense\n\n")), "malformed"),
        (answering(CHUNKED + chunked(b"data: \xff\xfe\n\n")), "malformed"),
        (answering(CHUNKED + chunked(b"data: [1]\n\n")), "malformed"),
        (answering(CHUNKED + b"xyz\r\n"), "malformed"),
    ],
)
async def test_broken_answer(peer: Peer, what: str) -> None:
    """An answer that is cut, reset or no completion fails its call, once, and says how."""
    async with listening(peer) as url:
        wire = Wire(url)
        with pytest.raises(WireError, match=what):
            await post(wire)
        await wire.close()
    assert wire.retries == 0


@pytest.mark.parametrize(
    ("timeouts", "what"),
    [
        (Timeouts(first_token_s=0.1), "no token came within 0.1 s"),
        (Timeouts(call_s=0.1), "took longer than 0.1 s"),
        (Timeouts(silence_s=0.1), "nothing came for 0.1 s"),
    ],
)
async def test_stalls(timeouts: Timeouts, what: str) -> None:
    """A server that stops in the middle of an answer is given up after each of the limits, and others go on."""

    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"stall" in await received(reader):
            writer.write(CHUNKED + b"%x\r\n%s\r\n" % (len(ANSWER[0]), ANSWER[0]))
            await reader.read()
        writer.write(CHUNKED + chunked(*ANSWER))

    async with listening(stalling) as url:
        wire, began = Wire(url, timeouts), monotonic()
        with pytest.raises(WireError, match=what):
            await post(wire, b"stall")
        assert 0.09 < monotonic() - began < 5
        assert is_answer((await post(wire))[1])
        await wire.close()


async def test_slow_is_no_stall() -> None:
    """Tokens that keep coming are waited for, past the limits on silence and on the first token."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await received(reader)
        writer.write(CHUNKED)
        for event in (*[token(" a")] * 6, *ANSWER):
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await asyncio.sleep(0.03)
        writer.write(b"0\r\n\r\n")

    async with listening(slow) as url:
        wire = Wire(url, Timeouts(silence_s=0.15, first_token_s=0.15))
        assert is_answer((await post(wire))[1])
        await wire.close()


async def test_nobody_listens() -> None:
    """A server that is not there is an error of the call, in one sentence."""
    with pytest.raises(WireError, match="no connection"):
        await post(Wire("http://127.0.0.1:9"))


async def test_get_in_time() -> None:
    """A question that is not answered in time is given up."""

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as url:
        wire = Wire(url)
        with pytest.raises(WireError, match=r"no answer within 0.1 s"):
            await wire.get("/v1/models", timeout_s=0.1)
        await wire.close()


async def test_request() -> None:
    """What is sent is HTTP/1.1 with the host, the length and the body, at the path below the URL's own."""
    seen: list[bytes] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(6))
        writer.write(CHUNKED + chunked(*ANSWER))

    async with listening(peer) as url:
        wire = Wire(f"{url}/proxy")
        await post(wire, '["é"]'.encode())
        await wire.close()
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /proxy/v1/chat/completions HTTP/1.1" and body == '["é"]'.encode()
    assert f"Host: {url.removeprefix('http://')}".encode() in lines and b"Content-Length: 6" in lines


async def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An https URL is spoken to over TLS, and a certificate that nobody vouches for is refused."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    made = subprocess.run([*make.split(), "-keyout", key, "-out", certificate], capture_output=True)
    assert made.returncode == 0, made.stderr
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with listening(answering(*[CHUNKED + chunked(*ANSWER)] * 2), tls) as url:
        stranger = Wire(url)
        with pytest.raises(WireError, match=r"no connection: .*certificate"):
            await post(stranger)
        await stranger.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        wire = Wire(url)
        assert is_answer((await post(wire))[1]) and is_answer((await post(wire))[1])
        await wire.close()

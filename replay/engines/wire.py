"""The client's side of HTTP: kept connections to one server, at the least cost per answer.

Pieces of an answer are handed on in the callback in which they arrive, so that times are those of the wire and not
of a task's turn. ``docs/benchmarks.md`` has the measurements behind this choice.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from time import monotonic
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from rejoule.replay.engines.http1 import ResponseReader

BODY_LIMIT: Final = 1 << 20
"""Bytes kept of an answer that nobody takes piece by piece."""


class WireError(Exception):
    """Why no whole answer came."""


class _UnansweredError(WireError):
    """A kept connection was closed before a byte of the answer came: most likely before the request was seen."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds; ``None`` is for ever."""

    connect_s: float = 10.0
    silence_s: float = 600.0
    """Between two pieces of an answer."""
    first_token_s: float | None = None
    """From the request's sending to the first token."""
    call_s: float | None = None
    """From the request's sending to the answer's last byte."""


class Sink(Protocol):
    """Takes the body of an answer with status 200."""

    @property
    def started(self) -> bool:
        """Whether the first token has come."""
        ...

    def feed(self, piece: bytes, at_s: float) -> None:
        """Raises ValueError if the body is not what it should be."""
        ...


class Request:
    """One request and its answer. Times are of ``time.monotonic``."""

    __slots__ = ("_connection", "_done", "_wire", "body", "data", "end_s", "heard_s", "reader", "sent_s", "sink")

    def __init__(self, wire: Wire, data: bytes, sink: Sink | None) -> None:
        self.data = data
        self.sink = sink
        self.reader = ResponseReader()
        self.body = b""
        """What did not go to the sink: all of an answer with another status than 200."""
        self.sent_s = self.heard_s = self.end_s = monotonic()
        self._wire = wire
        self._connection: _Connection | None = None
        self._done: asyncio.Future[None] | None = None

    @property
    def status(self) -> int:
        return self.reader.status

    async def send(self) -> None:
        """Ends when the request is on the wire. Raises WireError if no connection can be had."""
        await self._begin(self._wire.kept())

    async def answer(self) -> None:
        """Ends when the whole answer is here, whatever its status. Raises WireError if it does not come.

        The request is sent again, once, if a kept connection turns out to have been closed before it was seen.
        """
        assert self._done is not None and self._connection is not None
        try:
            try:
                await self._done
            except _UnansweredError:
                self._wire.retries += 1
                await self._begin(None)
                await self._done
        except asyncio.CancelledError:
            self._connection.abort()
            raise

    def take(self, piece: bytes) -> None:
        """Takes bytes of the answer. Raises ValueError if they are no HTTP, or not what the sink expects."""
        self.heard_s = monotonic()
        body = self.reader.feed(piece)
        if not body:
            return
        if self.sink is not None and self.reader.status == 200:
            self.sink.feed(body, self.heard_s)
        elif len(self.body) < BODY_LIMIT:
            self.body += body

    def end(self, error: WireError | None) -> None:
        self.end_s = monotonic()
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)

    async def _begin(self, connection: _Connection | None) -> None:
        try:
            self._connection = connection or await self._wire.connect()
        except WireError:
            self.end_s = monotonic()
            raise
        self.reader = ResponseReader()
        self._done = asyncio.get_running_loop().create_future()
        self._connection.begin(self)


class _Connection(asyncio.Protocol):
    """Carries one request after another."""

    def __init__(self, wire: Wire, timeouts: Timeouts) -> None:
        self._wire = wire
        self._timeouts = timeouts
        self._request: Request | None = None
        self._used = 0
        self._watch: asyncio.TimerHandle | None = None

    def begin(self, request: Request) -> None:
        self._request = request
        self._used += 1
        self.transport.write(request.data)
        request.sent_s = request.heard_s = monotonic()
        self._look(request)

    def abort(self) -> None:
        self.transport.abort()
        self._wire.lost(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        request = self._request
        if request is None:
            self.abort()
            return
        try:
            request.take(data)
        except ValueError as error:
            self._end(request, WireError(f"malformed answer: {error}"))
        else:
            if request.reader.complete:
                self._end(request, None)

    def connection_lost(self, error: Exception | None) -> None:
        self._wire.lost(self)
        if (request := self._request) is None:
            return
        request.reader.close()
        if request.reader.complete:
            self._end(request, None)
        elif self._used > 1 and request.heard_s == request.sent_s:
            self._end(request, _UnansweredError("the connection was closed before an answer"))
        else:
            self._end(request, WireError(f"the answer was cut: {error or 'the connection was closed'}"))

    def _end(self, request: Request, error: WireError | None) -> None:
        self._request = None
        if self._watch is not None:
            self._watch.cancel()
        if error is None and request.reader.reusable:
            self._wire.keep(self)
        else:
            self.abort()
        request.end(error)

    def _look(self, request: Request) -> None:
        # One timer a request, which sets itself anew: most answers end before it goes off once.
        limits = self._timeouts
        waiting = request.sink is not None and not request.sink.started
        at_s, limit_s, what = min(
            (since_s + limit_s, limit_s, what)
            for limit_s, since_s, what in (
                (limits.call_s, request.sent_s, "the answer took longer than"),
                (limits.first_token_s if waiting else None, request.sent_s, "no token came within"),
                (limits.silence_s, request.heard_s, "nothing came for"),
            )
            if limit_s is not None
        )
        if monotonic() >= at_s:
            self._end(request, WireError(f"stalled: {what} {limit_s:g} s"))
        else:
            self._watch = asyncio.get_running_loop().call_at(at_s, self._look, request)


class Wire:
    """Sends requests to one server, over as many connections as there are requests at a time.

    ``url`` is what paths are added to; ``key`` is sent as a bearer token. Certificates of https are checked against the
    system's.
    """

    def __init__(self, url: str, timeouts: Timeouts | None = None, *, key: str | None = None) -> None:
        parts = urlsplit(url)
        self._common = COMMON + (f"Authorization: Bearer {key}\r\n" if key else "")
        self.retries = 0
        """Requests sent again because a kept connection turned out to be closed."""
        self._timeouts = timeouts or Timeouts()
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._name = parts.hostname or ""
        self._address = (self._name, parts.port or (443 if self._tls else 80))
        self._root = parts.path.rstrip("/")
        self._host = parts.netloc.rpartition("@")[2]
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()

    def request(
        self, path: str, body: bytes, sink: Sink | None, *, name: str | None = None, method: str = "POST"
    ) -> Request:
        """A request with JSON, to be sent; ``sink`` takes an answer with status 200 as it comes.

        ``name`` is sent as ``X-Request-Id``, by which a server's log knows the request.
        """
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        fields += f"X-Request-Id: {name}\r\n" if name else ""
        return Request(self, self._head(method, path, fields) + body, sink)

    async def get(self, path: str, *, timeout_s: float = 15.0) -> Request:
        """A GET and its answer, whatever its status. Raises WireError if none comes in time."""
        request = Request(self, self._head("GET", path), None)
        try:
            async with asyncio.timeout(timeout_s):
                await request.send()
                await request.answer()
        except TimeoutError:
            raise WireError(f"no answer within {timeout_s:g} s") from None
        return request

    async def close(self) -> None:
        for connection in tuple(self._all):
            connection.abort()
        # Transports close in the loop's next turn.
        await asyncio.sleep(0)

    def kept(self) -> _Connection | None:
        """An open connection that carries nothing."""
        return self._idle.pop() if self._idle else None

    def keep(self, connection: _Connection) -> None:
        self._idle.append(connection)

    def lost(self, connection: _Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def connect(self) -> _Connection:
        """A new connection. Raises WireError if none can be had in time."""
        loop = asyncio.get_running_loop()
        limit_s = self._timeouts.connect_s
        try:
            async with asyncio.timeout(limit_s):
                transport, connection = await loop.create_connection(
                    lambda: _Connection(self, self._timeouts),
                    *self._address,
                    ssl=self._tls,
                    server_hostname=self._name if self._tls else None,
                )
        except TimeoutError:
            raise WireError(f"no connection within {limit_s:g} s") from None
        except (OSError, UnicodeError) as error:
            raise WireError(f"no connection: {getattr(error, 'strerror', None) or error}") from error
        self._all.add(connection)
        # Looking a name up costs a thread's turn; every further connection goes to the address that answered.
        self._address = transport.get_extra_info("peername")[:2]
        return connection

    def _head(self, method: str, path: str, fields: str = "") -> bytes:
        return f"{method} {self._root}{path} HTTP/1.1\r\nHost: {self._host}\r\n{self._common}{fields}\r\n".encode()


COMMON: Final = "Accept: */*\r\nAccept-Encoding: identity\r\nUser-Agent: rejoule\r\n"

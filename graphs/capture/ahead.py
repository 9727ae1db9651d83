"""Reads a streamed answer as it arrives, ahead of its client, so that its times are the server's and not the client's.

A thread reads for a synchronous client, a task for an asynchronous one. What the client sees is what it would have
seen without: the same pieces and errors in the same order, and a read timeout only while it waits itself.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, Protocol

from rejoule.graphs.capture.backlog import Backlog

MOST_AHEAD: Final = 64 << 20
"""Bytes that may wait for a client that does not read; beyond them the server waits, too."""
STOP_S: Final = 1.0
"""How long a client's closing waits for the thread that read for it."""


class Reader(Protocol):
    """What is told of a stream as it is read."""

    def arrived(self, piece: bytes, ago_ns: int = 0) -> None: ...

    def taken(self) -> None: ...

    def ended(self) -> None: ...

    def broke(self, error: BaseException) -> None: ...

    def closed(self) -> None: ...


class Waiting:
    """Pieces that have arrived and that the client has not taken, and how the stream ended."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.over = False
        self.dropped = False
        """Nobody will take any more."""
        self._error: BaseException | None = None
        self._pieces: deque[bytes] = deque()
        self._bytes = 0

    @property
    def news(self) -> bool:
        return bool(self._pieces) or self.over

    @property
    def room(self) -> bool:
        return self._bytes <= MOST_AHEAD or self.dropped

    def put(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._bytes += len(piece)

    def take(self) -> bytes | None:
        """The next piece, ``None`` at the end. Raises the error in which the stream ended."""
        if self._pieces:
            piece = self._pieces.popleft()
            self._bytes -= len(piece)
            self.reader.taken()
            return piece
        if self._error is not None:
            raise self._error
        return None

    def broke(self, error: BaseException) -> None:
        """The stream ended in this error."""
        self._error = error
        if not self.dropped:
            self.reader.broke(error)

    def left(self, error: BaseException) -> None:
        """The client stopped taking pieces; one that drops its iterator half-way lets go of the stream."""
        if isinstance(error, GeneratorExit):
            self.reader.closed()
        else:
            self.reader.broke(error)


class Ahead:
    """The body of a response that a thread reads; takes the place of its stream."""

    timed_out: type[Exception] = TimeoutError
    """What the HTTP library raises when nothing comes in time."""

    def __init__(self, response: Any, reader: Reader) -> None:
        self._inner = response.stream
        self._patience_s = _own_patience(response)
        found = _socket_of(response)
        self._socket = found if isinstance(found, socket.socket) else None
        self._waiting = Waiting(reader)
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(self._inner,), name="rejoule-reader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[bytes]:
        waiting, changed = self._waiting, self._changed
        try:
            while True:
                with changed:
                    if not changed.wait_for(lambda: waiting.news, self._patience_s):
                        raise self.timed_out("The read operation timed out")
                    piece = waiting.take()
                    changed.notify_all()
                if piece is None:
                    return
                yield piece
        except BaseException as error:
            waiting.left(error)
            self._stop()
            raise

    def close(self) -> None:
        self._waiting.reader.closed()
        self._stop()
        self._inner.close()

    def _read(self, body: Iterable[bytes]) -> None:
        waiting, changed = self._waiting, self._changed
        try:
            for piece in body:
                waiting.reader.arrived(piece)
                with changed:
                    waiting.put(piece)
                    changed.notify_all()
                    changed.wait_for(lambda: waiting.room)
                    if waiting.dropped:
                        return
            waiting.reader.ended()
        except BaseException as error:
            waiting.broke(error)
        finally:
            with changed:
                waiting.over = True
                changed.notify_all()

    def _stop(self) -> None:
        with self._changed:
            self._waiting.dropped = True
            self._changed.notify_all()
            if self._waiting.over or self._socket is None:
                return
        # A thread that waits for the server wakes by nothing else; whoever closes half-way closes the connection.
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_S)


class AsyncAhead:
    """The body of a response that a task reads; takes the place of its stream."""

    timed_out: type[Exception] = TimeoutError

    def __init__(self, response: Any, reader: Reader) -> None:
        self._inner = response.stream
        self._patience_s = _own_patience(response)
        self._waiting = Waiting(reader)
        self._backlog = Backlog(_socket_of(response))
        self._reading = False
        """In this turn of the loop."""
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._read(self._inner), name="rejoule-reader")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        waiting = self._waiting
        try:
            while True:
                if not waiting.news:
                    await self._next()
                piece = waiting.take()
                self._room.set()
                if piece is None:
                    return
                yield piece
        except BaseException as error:
            waiting.left(error)
            self._drop()
            raise

    async def aclose(self) -> None:
        self._waiting.reader.closed()
        self._drop()
        try:
            await asyncio.wait([self._task])
        finally:
            await self._inner.aclose()

    async def _next(self) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(self._patience_s):
                await self._news.wait()
        except TimeoutError:
            raise self.timed_out("The read operation timed out") from None

    async def _read(self, body: AsyncIterable[bytes]) -> None:
        waiting = self._waiting
        try:
            async for piece in body:
                waiting.reader.arrived(piece, self._waited_ns(piece))
                waiting.put(piece)
                self._news.set()
                while not waiting.room:
                    self._room.clear()
                    await self._room.wait()
            waiting.reader.ended()
        except BaseException as error:
            waiting.broke(error)
            if not isinstance(error, Exception):
                raise
        finally:
            waiting.over = True
            self._backlog.close()
            self._news.set()

    def _waited_ns(self, piece: bytes) -> int:
        if not self._reading:
            # All that one read of the socket gives comes within a turn.
            self._reading = True
            asyncio.get_running_loop().call_soon(self._next_turn)
            self._backlog.read()
        return self._backlog.since_ns(piece)

    def _next_turn(self) -> None:
        self._reading = False

    def _drop(self) -> None:
        self._waiting.dropped = True
        self._task.cancel()


def _own_patience(response: Any) -> float | None:
    """The client's read timeout, in seconds, which is no longer the transport's: it is about a client that waits."""
    extensions = response.request.extensions
    timeouts = extensions.get("timeout") or {}
    # Transports look it up when their body is first read, which is after this.
    extensions["timeout"] = {**timeouts, "read": None}
    patience_s: float | None = timeouts.get("read")
    return patience_s


def _socket_of(response: Any) -> Any:
    """The connection's socket, if it carries nothing but this answer; of asyncio one that can only be looked at."""
    stream = response.extensions.get("network_stream")
    if stream is None or response.extensions.get("http_version") == b"HTTP/2":
        return None
    return stream.get_extra_info("socket")

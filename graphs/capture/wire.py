"""Sees every request that OpenAI's SDK sends, whoever made the client, and all others that go to a recording by the
same HTTP libraries, and times every piece of an answer.

`tapped` replaces ``send`` of the HTTP client classes that the SDK builds on. A `Listener` decides which requests are
watched; all others pass untouched.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

from rejoule.graphs.capture.ahead import Ahead, AsyncAhead
from rejoule.graphs.capture.patching import SharedPatch
from rejoule.graphs.capture.rewrite import Outgoing
from rejoule.graphs.places.owners import DIRECT, origin, owner_of
from rejoule.graphs.places.senders import MARK

HTTP_LIBRARIES = ("httpx2", "httpx")
"""What the SDK uses from its third major version on, and what it used before."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that make no server work."""


class Watch(Protocol):
    """One watched request, from its sending to the end of its answer."""

    @property
    def outgoing(self) -> Outgoing:
        """What to send in its place."""

    def answered(self, status: int, streamed: bool) -> None:
        """The head of the answer came; ``streamed`` as server-sent events, or whole."""

    def arrived(self, piece: bytes, ago_ns: int = 0) -> None:
        """A piece of its body came, so long ago."""

    def taken(self) -> None:
        """The client took the next piece of a stream."""

    def ended(self) -> None:
        """Its whole body came."""

    def broke(self, error: BaseException) -> None:
        """It ended in this error."""

    def closed(self) -> None:
        """The client let go of it, at its end or before."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, about to leave."""

    method: str
    url: str
    headers: list[tuple[str, str]]
    inner: Any
    """The HTTP library's own."""
    marked: bool = False
    """OpenAI's SDK sends it."""
    attempt: int = 0

    @property
    def body(self) -> bytes:
        """Its content; read only where it is wanted, as uploads are streams."""
        return bytes(self.inner.content)


Listener = Callable[[Request], Watch | None]
"""Decides whether to watch a request; ``None`` lets it pass."""


class Tap:
    """Passes a body on that is read whole at once, telling the watch; streams are read ahead of their client."""

    def __init__(self, inner: Any, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._inner:
                self._watch.arrived(piece)
                yield piece
            self._watch.ended()
        except BaseException as error:
            self._fault(error)
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._inner:
                self._watch.arrived(piece)
                yield piece
            self._watch.ended()
        except BaseException as error:
            self._fault(error)
            raise

    def _fault(self, error: BaseException) -> None:
        # A generator that is dropped half-way is the client's own doing: closing says so.
        if not isinstance(error, GeneratorExit):
            self._watch.broke(error)

    def close(self) -> None:
        self._watch.closed()
        self._inner.close()

    async def aclose(self) -> None:
        self._watch.closed()
        await self._inner.aclose()


_listeners: list[Listener] = []
# What a forked process does is seen on the recording's own URL.
os.register_at_fork(after_in_child=_listeners.clear)


@contextmanager
def tapped(listener: Listener) -> Iterator[None]:
    """Shows it the SDK's requests while it is open, of clients made before, meanwhile, and anywhere."""
    _listeners.append(listener)
    try:
        with _PATCH.held():
            yield
    finally:
        _listeners.remove(listener)


@contextmanager
def _libraries_tapped() -> Iterator[None]:
    with ExitStack() as undo:
        for name in HTTP_LIBRARIES:
            try:
                library = import_module(name)
            except ImportError:
                continue
            undo.enter_context(_library_tapped(library))
        yield


_PATCH = SharedPatch(_libraries_tapped)


@contextmanager
def _library_tapped(library: ModuleType) -> Iterator[None]:
    # Both libraries ask of a body that it is one of their own streams.
    tap = type("Tap", (Tap, library.SyncByteStream, library.AsyncByteStream), {})
    ahead = type("Ahead", (Ahead, library.SyncByteStream), {"timed_out": library.ReadTimeout})
    async_ahead = type("AsyncAhead", (AsyncAhead, library.AsyncByteStream), {"timed_out": library.ReadTimeout})
    send, asend = library.Client.send, library.AsyncClient.send

    @functools.wraps(send)
    def watched_send(client: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        watch = _watched(request)
        if watch is None:
            return send(client, request, stream=stream, **options)
        try:
            with _seen():
                response = send(client, *_outgoing(request, watch, options), stream=True, **options)
        except BaseException as error:
            watch.broke(error)
            raise
        watch.answered(response.status_code, _is_stream(response))
        if _was_read(response, watch):
            return response
        response.stream = ahead(response, watch) if stream else tap(response.stream, watch)
        if not stream:
            try:
                response.read()
            except BaseException:
                response.close()
                raise
        return response

    @functools.wraps(asend)
    async def watched_asend(client: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        watch = _watched(request)
        if watch is None:
            return await asend(client, request, stream=stream, **options)
        try:
            with _seen():
                response = await asend(client, *_outgoing(request, watch, options), stream=True, **options)
        except BaseException as error:
            watch.broke(error)
            raise
        watch.answered(response.status_code, _is_stream(response))
        if _was_read(response, watch):
            return response
        response.stream = async_ahead(response, watch) if stream else tap(response.stream, watch)
        if not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response

    library.Client.send, library.AsyncClient.send = watched_send, watched_asend
    try:
        yield
    finally:
        library.Client.send, library.AsyncClient.send = send, asend


@contextmanager
def _seen() -> Iterator[None]:
    """Libraries beneath, as some clients have, are to leave it alone."""
    before = DIRECT.set(True)
    try:
        yield
    finally:
        DIRECT.reset(before)


def _watched(request: Any) -> Watch | None:
    """The SDK marks its requests, and counts its retries."""
    marked = MARK in request.headers
    if request.method in READING or not (marked or owner_of(origin(str(request.url)))):
        return None
    count = request.headers.get("x-stainless-retry-count", "0")
    attempt = int(count) if count.isdigit() else 0
    headers = list(request.headers.multi_items())
    seen = Request(request.method, str(request.url), headers, request, marked, attempt)
    watches = (listener(seen) for listener in list(_listeners))
    return next((watch for watch in watches if watch is not None), None)


def _was_read(response: Any, watch: Watch) -> bool:
    """Whether a hook of the client has read the whole body already; then it is all there at once."""
    if not response.is_stream_consumed:
        return False
    watch.arrived(response.content)
    watch.ended()
    return True


def _is_stream(response: Any) -> bool:
    return str(response.headers.get("content-type", "")).startswith("text/event-stream")


def _outgoing(request: Any, watch: Watch, options: dict[str, Any]) -> tuple[Any]:
    """The request to send instead; a client's own authentication does not follow it to another host."""
    out = watch.outgoing
    if out.redirected:
        options["auth"] = None
    return (
        type(request)(request.method, out.url, headers=out.headers, content=out.body, extensions=request.extensions),
    )

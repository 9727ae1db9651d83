"""The URL that is the recording's own: all that reaches it is seen, whoever sent it, and goes on to the server.

Runs in a thread of its own, as nodes may block their event loop. Bytes pass as they come, both ways; a client that
leaves takes its request along, and a server that is gone is gone for the client too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from yarl import URL

from rejoule.graphs.capture.rewrite import captured
from rejoule.graphs.capture.server import ServerInfo
from rejoule.graphs.capture.wire import READING, Request, Watch
from rejoule.graphs.places.owners import DIRECT, HEADER, Owner, taken_apart

HOST: Final = "127.0.0.1"
OF_A_CONNECTION: Final = frozenset({
    "connection", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade", HEADER,
})  # fmt: skip
"""Headers that go no further than one connection."""
LONGEST_LINE: Final = 2**16
UNSAID: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""What aiohttp would add by itself."""

Reached = Callable[[Request, str | None], Watch | None]
"""Decides whether to watch a request that names this place; ``None`` lets it pass."""


@dataclass(frozen=True, slots=True)
class _Body:
    """A body that was read, in the form in which a `Request` wants it."""

    content: bytes


class Net:
    """Forwards to ``server`` while it is entered, and shows ``reached`` all that asks it for work."""

    def __init__(self, server: ServerInfo) -> None:
        self._server = server
        parts = urlsplit(server.base_url)
        self._root = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path
        self.reached: Reached = self._early
        self.early: list[Request] = []
        """Requests that came before anybody listened, as when a graph's file is imported."""
        self.owner = Owner("", self._root)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="rejoule-net", daemon=True)
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._stop: asyncio.Event

    @property
    def info(self) -> ServerInfo:
        """The server, as the recorded program is to see it."""
        return replace(self._server, base_url=self.owner.net + self._path)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        DIRECT.set(True)
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._failed = error
        finally:
            self._started.set()

    def _early(self, request: Request, place: str | None) -> None:
        self.early.append(request)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            auto_decompress=False,
            shutdown_timeout=0.1,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        self._session = ClientSession(
            auto_decompress=False,
            connector=TCPConnector(limit=0),
            cookie_jar=DummyCookieJar(),
            skip_auto_headers=UNSAID,
            timeout=ClientTimeout(total=None),
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        async with self._session:
            await runner.setup()
            try:
                await web.TCPSite(runner, HOST, 0).start()
                self.owner.net = f"http://{HOST}:{runner.addresses[0][1]}"
                self._started.set()
                await self._stop.wait()
            finally:
                await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        place, path = taken_apart(request.raw_path)
        url = self._root + path
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in OF_A_CONNECTION]
        body: Any = request.content if request.body_exists else None
        watch = None
        if request.method not in READING:
            if captured(url):
                body = await request.read()
            seen = Request(request.method, url, headers, _Body(body if isinstance(body, bytes) else b""))
            watch = self.reached(seen, request.headers.get(HEADER, place))
        if watch is not None:
            url, headers, body = watch.outgoing.url, watch.outgoing.headers, watch.outgoing.body
        try:
            async with self._session.request(
                request.method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
            ) as answer:
                return await self._answered(request, answer, watch)
        except (ClientError, OSError) as error:
            if request.transport is not None and not request.transport.is_closing():
                request.transport.abort()
                if watch is not None:
                    watch.broke(error)
            return web.Response(status=502)
        finally:
            if watch is not None:
                watch.closed()

    async def _answered(self, request: web.Request, answer: ClientResponse, watch: Watch | None) -> web.StreamResponse:
        if watch is not None:
            watch.answered(answer.status, answer.content_type == "text/event-stream")
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        response.headers.extend((k, v) for k, v in answer.headers.items() if k.lower() not in OF_A_CONNECTION)
        await response.prepare(request)
        left = answer.content_length
        async for piece in answer.content.iter_any():
            if watch is not None:
                watch.arrived(piece)
                left = None if left is None else left - len(piece)
                if left == 0:
                    # The client has it all with this piece, and goes on.
                    watch.ended()
            await response.write(piece)
            if watch is not None:
                watch.taken()
        if watch is not None:
            watch.ended()
        await response.write_eof()
        return response

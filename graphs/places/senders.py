"""HTTP libraries that say where a request comes from, if it goes to a recording; all other requests pass untouched.

`http.client` is what urllib, urllib3 and requests are built on. OpenAI's SDK and httpx need this in worker processes
only: in the recording's own process they are watched more closely.
"""

from __future__ import annotations

import functools
import http.client
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from typing import Any

from rejoule.graphs.places.owners import DIRECT, HEADER, Origin, Owner, on_net, origin, origin_of, owner_of, owners

MARK = "x-stainless-lang"
"""OpenAI's SDK marks its requests so. Those to other hosts come to the recording too."""
FOLLOWING = frozenset({"content-type", "accept", "user-agent", "traceparent", "tracestate"})
"""Headers that follow a request to another host than the client's own; any other may be a credential."""


@contextmanager
def standard_told() -> Iterator[None]:
    """For `http.client`, which also comes to the recording where it was given the server's own address."""
    connection: Any = http.client.HTTPConnection
    put, end = connection.putrequest, connection.endheaders
    on_net = "_rejoule_socket"

    @functools.wraps(put)
    def putrequest(self: Any, method: str, url: str, *rest: Any, **options: Any) -> None:
        owner = _owner_of(self)
        if owner is not None and _elsewhere(self, owner) and self.sock is not getattr(self, on_net, None):
            self.close()
        put(self, method, url, *rest, **options)
        if owner is None:
            return
        if _origin(self) != origin(owner.net) and not _elsewhere(self, owner):
            owner.missed(method, owner.server + url)
        elif (place := owner.said()) is not None:
            self.putheader(HEADER, place)

    @functools.wraps(end)
    def endheaders(self: Any, *rest: Any, **options: Any) -> None:
        owner = _owner_of(self)
        if owner is None or self.sock is not None or not _elsewhere(self, owner):
            end(self, *rest, **options)
            return
        own, net = (self.host, self.port), origin(owner.net)
        assert net is not None
        self.host, self.port = "127.0.0.1", net[2]
        try:
            end(self, *rest, **options)
        finally:
            self.host, self.port = own
        setattr(self, on_net, self.sock)

    connection.putrequest, connection.endheaders = putrequest, endheaders
    try:
        yield
    finally:
        connection.putrequest, connection.endheaders = put, end


def _owner_of(connection: Any) -> Owner | None:
    return owner_of(_origin(connection)) if connection._tunnel_host is None else None


def _origin(connection: Any) -> Origin:
    secure = isinstance(connection, http.client.HTTPSConnection)
    return origin_of("https" if secure else "http", connection.host, connection.port)


def _elsewhere(connection: Any, owner: Owner) -> bool:
    """It goes to the server itself; one that is encrypted cannot be turned round here."""
    at = _origin(connection)
    return at[0] == "http" and at != origin(owner.net)


@contextmanager
def aiohttp_told(library: Any) -> Iterator[None]:
    from multidict import CIMultiDict

    send = library.ClientSession._request

    @functools.wraps(send)
    async def request(session: Any, method: str, url: Any, **options: Any) -> Any:
        full = str(session._build_url(url))
        owner = owner_of(origin(full))
        if owner is None:
            return await send(session, method, url, **options)
        headers = CIMultiDict(options.pop("headers", None) or ())
        if (place := owner.said()) is not None:
            headers[HEADER] = place
        if origin(full) != origin(owner.net):
            url = on_net(full, owner)
        return await send(session, method, url, headers=headers, **options)

    library.ClientSession._request = request
    try:
        yield
    finally:
        library.ClientSession._request = send


@contextmanager
def httpx_told(library: Any) -> Iterator[None]:
    send, asend = library.Client.send, library.AsyncClient.send

    @functools.wraps(send)
    def told_send(client: Any, request: Any, **options: Any) -> Any:
        return send(client, _told(library, request, options), **options)

    @functools.wraps(asend)
    async def told_asend(client: Any, request: Any, **options: Any) -> Any:
        return await asend(client, _told(library, request, options), **options)

    library.Client.send, library.AsyncClient.send = told_send, told_asend
    try:
        yield
    finally:
        library.Client.send, library.AsyncClient.send = send, asend


def _told(library: Any, request: Any, options: dict[str, Any]) -> Any:
    url = str(request.url)
    owner = owner_of(origin(url))
    if owner is None and MARK in request.headers and url.endswith("/completions") and not DIRECT.get():
        owner = next(reversed(owners()), None)
        if owner is not None:
            _turn_round(library, request, options, owner)
    if owner is not None:
        if origin(url) == origin(owner.server):
            request.url = library.URL(on_net(url, owner))
        if (place := owner.said()) is not None:
            request.headers[HEADER] = place
    return request


def _turn_round(library: Any, request: Any, options: dict[str, Any], owner: Owner) -> None:
    """Sends it to the recording, as its clients in the recording's own process are; no credential follows."""
    root = os.environ.get("OPENAI_BASE_URL", f"{owner.net}/v1").rstrip("/")
    tail = "chat/completions" if str(request.url).endswith("/chat/completions") else "completions"
    request.url = library.URL(f"{root}/{tail}")
    for name in [n for n in request.headers if n not in FOLLOWING | {"content-length", "transfer-encoding"}]:
        del request.headers[name]
    request.headers["host"] = request.url.netloc.decode()
    request.headers["authorization"] = f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"
    options["auth"] = None


LATE: dict[str, Callable[[Any], AbstractContextManager[None]]] = {
    "aiohttp": aiohttp_told,
    "httpx": httpx_told,
    "httpx2": httpx_told,
}
_late_told: set[str] = set()


@contextmanager
def senders_told() -> Iterator[None]:
    """In the recording's own process."""
    with standard_told(), aiohttp_told(import_module("aiohttp")):
        _late_told.add("aiohttp")
        try:
            yield
        finally:
            _late_told.discard("aiohttp")


def tell_late(done: ExitStack) -> None:
    """In a worker process: patches for good what it has loaded by now."""
    for name in LATE.keys() & sys.modules.keys() - _late_told:
        _late_told.add(name)
        done.enter_context(LATE[name](sys.modules[name]))

"""Which recordings own which URLs, and where in a workflow the running code is, as a word that a header can carry."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from rejoule.graphs.places.hands import hand

HEADER = "x-rejoule-place"
INHERITED = "~"
"""Ends the word of a process that was started in a node: it may outlive it."""
BY = "@"
"""Before the word for the thread of control that sends."""

Origin = tuple[str, str, int]
"""Scheme, host and port."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "0.0.0.0"})
PORTS = {"http": 80, "https": 443}
DIRECT: ContextVar[bool] = ContextVar("rejoule_direct", default=False)
"""Set around requests that the recording itself sends on, or has seen already."""


@dataclass(slots=True)
class Owner:
    """A recording, as those know it who send requests."""

    net: str
    """Root of the URL that is its own: ``http://127.0.0.1:4567``."""
    server: str
    """Root of its server's URL."""
    place: Callable[[], str | None] = lambda: None
    """Where the running code is; ``None`` outside any node."""
    missed: Callable[[str, str], None] = lambda method, url: None
    """Told of a request that can neither be watched nor turned round."""

    def said(self) -> str | None:
        """What a request's header says of where it was sent; ``None`` outside any node."""
        place = self.place()
        return None if place is None else f"{place}{BY}{hand()}"


_owners: list[Owner] = []
_leaving: ContextVar[tuple[str | None, ...]] = ContextVar("rejoule_leaving", default=())


def origin(url: str) -> Origin | None:
    """A URL's origin, with one name for this machine; ``None`` where it has none."""
    try:
        parts = urlsplit(url)
        return None if parts.hostname is None else origin_of(parts.scheme, parts.hostname, parts.port)
    except ValueError:
        return None


def origin_of(scheme: str, host: str, port: int | None) -> Origin:
    return scheme, "localhost" if host in LOOPBACK else host.lower(), port or PORTS.get(scheme, 0)


def owner_of(at: Origin | None) -> Owner | None:
    """The recording to which a request to this origin belongs."""
    if at is None or DIRECT.get():
        return None
    return next((o for o in reversed(_owners) if at in (origin(o.net), origin(o.server))), None)


def owners() -> tuple[Owner, ...]:
    return tuple(_owners)


@contextmanager
def owned(owner: Owner) -> Iterator[None]:
    """Makes a recording known while open."""
    _owners.append(owner)
    try:
        yield
    finally:
        _owners.remove(owner)


@contextmanager
def told(net: str, server: str, place: str) -> Iterator[None]:
    """In a worker process: what runs while it is open runs in this place of that recording."""
    owner = next((o for o in _owners if o.net == net), None)
    if owner is None:
        owner = Owner(net, server)
        _owners.append(owner)
    before, owner.place = owner.place, lambda: place
    try:
        yield
    finally:
        owner.place = before


def inherited(place: str) -> str:
    """The word for a process that starts in this place."""
    return place if place.endswith(INHERITED) else place + INHERITED


def addressed(text: str) -> str:
    """A text with the place in every URL of a recording that it holds: ``http://127.0.0.1:4567/~PLACE/v1``.

    Programs in any language then say it without knowing.
    """
    for owner in _owners:
        if (place := owner.place()) is not None:
            for root in {owner.net, owner.server}:
                text = re.sub(rf"{re.escape(root)}(?![\w.:~-]|/~)", f"{owner.net}/~{inherited(place)}", text)
    return text


def on_net(url: str, owner: Owner) -> str:
    """A URL of the server's as one of the recording's."""
    parts = urlsplit(url)
    return owner.net + urlunsplit(("", "", parts.path, parts.query, ""))


def taken_apart(path: str) -> tuple[str | None, str]:
    """The place in a path, and the path without it."""
    found = re.match(r"/~([^/]+)(/.*|$)", path, re.DOTALL)
    return (found[1], found[2] or "/") if found else (None, path)


def leaving() -> None:
    """In the parent, before a fork: notes the place, as finding it takes locks that a child could wait for forever."""
    _leaving.set(tuple(owner.place() for owner in _owners))


def left() -> None:
    """In the child: the place is that of the fork."""
    for owner, place in zip(_owners, _leaving.get(), strict=False):
        word = None if place is None else inherited(place)
        owner.place = lambda word=word: word  # type: ignore[misc]
        owner.missed = lambda method, url: None

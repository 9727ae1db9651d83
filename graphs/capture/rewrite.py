"""How a request of the user's client is fitted to the server of the recording, before it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from rejoule.graphs.capture.server import ServerInfo
from rejoule.graphs.places.owners import origin
from rejoule.graphs.places.senders import FOLLOWING


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it leaves."""

    url: str
    headers: list[tuple[str, str]]
    body: bytes
    recorded: Mapping[str, Any]
    """The body as the trace keeps it: all of it but what only makes the server say more."""
    redirected: bool


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Sends requests to one server, under a model's name that it knows, and asks for token ids where it has them."""

    server: ServerInfo
    model: str | None = None
    """Replaces names that the server does not list; its first model by default."""
    net: str | None = None
    """Root of the URL that stands for the server's while it is recorded."""

    def __call__(self, url: str, headers: list[tuple[str, str]], body: bytes, request_id: str) -> Outgoing:
        """What to send instead; an unreadable body is sent as it is, for the server to refuse."""
        at = origin(url)
        redirected = at not in (origin(self.server.base_url), self.net and origin(self.net))
        if self.net is not None and at == origin(self.net):
            root, path = urlsplit(self.server.base_url), urlsplit(url)
            url = urlunsplit((root.scheme, root.netloc, path.path, path.query, ""))
        if redirected:
            url = f"{self.server.base_url}/{endpoint(url)}"
        sent: Mapping[str, Any]
        try:
            sent = recorded = self._named(orjson.loads(body))
        except (orjson.JSONDecodeError, AttributeError):
            recorded = {}
        else:
            if self.server.returns_token_ids and "return_token_ids" not in recorded:
                sent = {**recorded, "return_token_ids": True}
            body = orjson.dumps(sent)
        return Outgoing(url, self._headers(headers, redirected, request_id), body, recorded, redirected)

    def _named(self, body: dict[str, Any]) -> dict[str, Any]:
        known = self.server.models
        if not known or body.get("model") in known:
            return body
        return {**body, "model": self.model if self.model in known else known[0]}

    def _headers(self, headers: list[tuple[str, str]], redirected: bool, request_id: str) -> list[tuple[str, str]]:
        # A compressed answer arrives in the compressor's pieces, so the times of its chunks would be lost.
        ours = {"x-request-id": request_id, "accept-encoding": "identity"}
        if redirected:
            ours["authorization"] = f"Bearer {self.server.api_key}"
        dropped = {*ours, "content-length", "host"}
        kept = [(k, v) for k, v in headers if k.lower() not in dropped]
        if redirected:
            kept = [(k, v) for k, v in kept if k.lower() in FOLLOWING]
        return kept + list(ours.items())


def endpoint(url: str) -> str:
    """``chat/completions`` or ``completions``, whichever root the client put before it."""
    return "chat/completions" if urlsplit(url).path.endswith("/chat/completions") else "completions"


def captured(url: str) -> bool:
    """Whether it is one of the endpoints whose calls a trace holds."""
    return urlsplit(url).path.endswith("/completions")

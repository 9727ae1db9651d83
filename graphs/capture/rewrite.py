"""How a request of the user's client is fitted to the server of the recording, before it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from rejoule.graphs.capture.server import ServerInfo

FOLLOWING = ("content-type", "accept", "user-agent", "traceparent", "tracestate")
"""Headers that follow a request to another host than the client's own; any other may be a credential."""


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

    def __call__(self, url: str, headers: list[tuple[str, str]], body: bytes, request_id: str) -> Outgoing:
        """What to send instead; an unreadable body is sent as it is, for the server to refuse."""
        redirected = _origin(url) != _origin(self.server.base_url)
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


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)

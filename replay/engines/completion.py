"""What a replay needs to know of a streamed completion: its times, its end, its counts, and what went wrong.

Events are decoded into types that hold only that; the decoder checks the rest of their JSON and skips it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from rejoule.replay.engines.sse import EventStream
from rejoule.traces.check import MOST_TOKENS

Tokens = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _Delta(msgspec.Struct, gc=False):
    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: Any = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None


class _Cached(msgspec.Struct, gc=False):
    cached_tokens: Tokens | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None
    prompt_tokens_details: _Cached | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    prompt_token_ids: list[int] | None = None


OnTokens = Callable[[int, float], None]

_decode: Final = msgspec.json.Decoder(_Event).decode


class Completion:
    """What a streamed completion says, gathered as it arrives. ``None`` is what the server has not said."""

    __slots__ = (
        "_events", "_on_tokens", "_outputs", "cached_tokens", "error", "finish_reason", "first_token_s",
        "output_tokens", "prompt_token_ids", "prompt_tokens", "token_ids",
    )  # fmt: skip

    def __init__(self, on_tokens: OnTokens | None = None) -> None:
        """``on_tokens`` is told how many tokens have come, and when, with every event that has some."""
        self._events = EventStream()
        self._on_tokens = on_tokens
        self._outputs = 0
        self.first_token_s: float | None = None
        """On the clock that ``feed`` is given."""
        self.finish_reason: str | None = None
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.output_tokens: int | None = None
        self.prompt_token_ids: list[int] | None = None
        self.token_ids: list[int] | None = None
        """Only of servers that were asked to return them."""
        self.error: str | None = None
        """What the server itself said went wrong."""

    @property
    def started(self) -> bool:
        return self.first_token_s is not None

    def feed(self, piece: bytes, at_s: float) -> None:
        """Takes the piece of the body that came at ``at_s``. Raises ValueError if it is no completion."""
        for data in self._events.feed(piece):
            if data != b"[DONE]":
                self._take(_decode(data), at_s)

    def end(self, at_s: float) -> None:
        """Takes note that nothing more comes. Raises ValueError if what came is no completion."""

    def _take(self, event: _Event, at_s: float) -> None:
        if event.error is not None:
            self.error = _sentence(event.error) or str(event.error)
        if event.prompt_token_ids:
            self.prompt_token_ids = event.prompt_token_ids
        if (usage := event.usage) is not None:
            self.prompt_tokens, self.output_tokens = usage.prompt_tokens, usage.completion_tokens
            if usage.prompt_tokens_details is not None:
                self.cached_tokens = usage.prompt_tokens_details.cached_tokens
        for choice in event.choices or ():
            if self.first_token_s is None and _has_token(choice):
                self.first_token_s = at_s
            if choice.finish_reason is not None:
                self.finish_reason = choice.finish_reason
            if choice.token_ids:
                self.token_ids = [*(self.token_ids or ()), *choice.token_ids]
            if self._on_tokens is not None and _has_token(choice):
                self._outputs += 1
                # Servers that return no ids send a token an event, as far as anybody can tell.
                self._on_tokens(len(self.token_ids or ()) or self._outputs, at_s)


class WholeCompletion(Completion):
    """A completion that comes in one piece, and so has no time of a first token."""

    __slots__ = ("_body",)

    def __init__(self) -> None:
        super().__init__()
        self._body = b""

    def feed(self, piece: bytes, at_s: float) -> None:
        self._body += piece

    def end(self, at_s: float) -> None:
        if self._body:
            self._take(_decode(self._body), at_s)
            self.first_token_s = None


def error_text(body: bytes) -> str:
    """The sentence in an error's body, in OpenAI's, vLLM's or FastAPI's form; else the beginning of what it is."""
    try:
        found = _sentence(msgspec.json.decode(body))
    except ValueError:
        found = None
    return found or body[:500].decode(errors="replace").strip()


def _sentence(error: Any) -> str | None:
    if isinstance(error, dict):
        return _sentence(error.get("message") or error.get("error") or error.get("detail"))
    return error if isinstance(error, str) else None


def _has_token(choice: _Choice) -> bool:
    if choice.text or choice.token_ids:
        return True
    delta = choice.delta
    return delta is not None and bool(delta.content or delta.reasoning or delta.reasoning_content or delta.tool_calls)

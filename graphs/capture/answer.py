"""What a server's answer says: plain or streamed, of chat or of plain completions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from rejoule.traces.check import MOST_TOKENS

Piece = tuple[int, bytes]
"""Bytes of an answer's body, and when they arrived."""

DONE = b"[DONE]"
LONGEST_ERROR = 2000


@dataclass(frozen=True, slots=True)
class Answer:
    """The fields of one answer, in the words of a trace; ``None`` is what the server left unsaid."""

    text: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    first_token_at: int | None = None
    chunks_at: tuple[int, ...] = ()
    pieces: int | None = None
    """Of a stream, how many carried output."""
    others: tuple[Answer, ...] = ()
    """Where several were asked for, those after the first, which then has the tokens of all."""
    complete: bool = True
    """A stream said that it was done."""
    error: str | None = None

    @property
    def whole(self) -> bool:
        """It said that it was done, or why it stopped: not all servers say both, and not all clients read on."""
        return self.complete or all(one.finish_reason is not None for one in (self, *self.others))


def parse(pieces: Sequence[Piece], *, status: int, streamed: bool) -> Answer:
    """Reads the whole body of an answer with this HTTP status."""
    body = b"".join(data for _, data in pieces)
    if status != 200:
        return Answer(error=_refusal(body, status))
    try:
        return _streamed(pieces) if streamed else _plain(_json(body))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
        return Answer(error=f"the answer is no completion: {_shortened(body)}")


def events(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """The data of every server-sent event, with the arrival of its last byte."""
    line, data = bytearray(), bytearray()
    for at, piece in pieces:
        *whole, rest = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for end in whole:
            line += end
            if line.startswith(b"data:"):
                data += (b"\n" if data else b"") + line[5:].lstrip(b" ")
            elif not line and data:
                yield at, bytes(data)
                data.clear()
            line.clear()
        line += rest


def _plain(body: Mapping[str, Any]) -> Answer:
    if body.get("error"):
        return Answer(error=_message(body))
    first, *others = body["choices"]
    return replace(_choice(first, body, body.get("usage")), others=tuple(_choice(one, body, None) for one in others))


def _choice(choice: Mapping[str, Any], body: Mapping[str, Any], usage: Mapping[str, Any] | None) -> Answer:
    message: Mapping[str, Any] = choice.get("message") or {}
    return Answer(
        text=_text(choice["text"] if "text" in choice else message.get("content")),
        tool_calls=tuple(call for call in message.get("tool_calls") or () if isinstance(call, dict)),
        finish_reason=_text(choice.get("finish_reason")),
        **_tokens(usage, _first(choice.get("prompt_token_ids"), body.get("prompt_token_ids")), choice.get("token_ids")),
    )


class _Streamed:
    """One choice of a stream, as far as it has come."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.tools: dict[int, dict[str, Any]] = {}
        self.token_ids: list[int] | None = None
        self.prompt_ids: Sequence[int] | None = None
        self.finish: str | None = None
        self.first_token: int | None = None
        self.chunks: list[int] = []
        self.pieces = 0

    def take(self, choice: Mapping[str, Any], at: int) -> None:
        delta = choice.get("delta") or {}
        word = choice.get("text") or delta.get("content")
        if isinstance(word, str) and word:
            self.text.append(word)
        for part in delta.get("tool_calls") or ():
            _extend(self.tools.setdefault(part.get("index", 0), {}), part)
        if (ids := choice.get("token_ids")) is not None:
            self.token_ids = (self.token_ids or []) + ids
        self.prompt_ids = _first(self.prompt_ids, choice.get("prompt_token_ids"))
        self.finish = choice.get("finish_reason") or self.finish
        self.chunks.append(at)
        if word or ids or delta.get("tool_calls") or delta.get("reasoning") or delta.get("reasoning_content"):
            self.pieces += 1
            self.first_token = _first(self.first_token, at)

    def answer(self, usage: Mapping[str, Any] | None, prompt_ids: Sequence[int] | None) -> Answer:
        return Answer(
            text=_text("".join(self.text)) if self.text or not self.tools else None,
            tool_calls=tuple(self.tools[i] for i in sorted(self.tools)),
            finish_reason=_text(self.finish),
            first_token_at=self.first_token,
            chunks_at=tuple(self.chunks),
            pieces=self.pieces,
            **_tokens(usage, _first(self.prompt_ids, prompt_ids), self.token_ids),
        )


def _streamed(pieces: Sequence[Piece]) -> Answer:
    choices: defaultdict[int, _Streamed] = defaultdict(_Streamed)
    prompt_ids = usage = error = None
    chunks: list[int] = []
    complete = False
    for at, data in events(pieces):
        if data.strip() == DONE:
            complete = True
            break
        chunk = _json(data)
        chunks.append(at)
        if chunk.get("error"):
            error = _message(chunk)
            continue
        usage = chunk.get("usage") or usage
        prompt_ids = _first(prompt_ids, chunk.get("prompt_token_ids"))
        for choice in chunk.get("choices") or ():
            choices[choice.get("index", 0)].take(choice, at)
    first, *others = (choices[index] for index in sorted(choices)) if choices else [_Streamed()]
    return replace(
        first.answer(usage, prompt_ids),
        chunks_at=tuple(first.chunks) if others else tuple(chunks),
        others=tuple(other.answer(None, prompt_ids) for other in others),
        complete=complete,
        error=error,
    )


def _extend(call: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Adds one delta of a tool call to what is known of it; only its arguments come in pieces."""
    function = call.setdefault("function", {"name": "", "arguments": ""})
    part = delta.get("function") or {}
    function["name"] = part.get("name") or function["name"]
    function["arguments"] += part.get("arguments") or ""
    call.update({key: delta[key] for key in ("id", "type") if delta.get(key)})


def _tokens(
    usage: Mapping[str, Any] | None, prompt_ids: Sequence[int] | None, token_ids: Sequence[int] | None
) -> dict[str, Any]:
    usage = usage or {}
    details = usage.get("prompt_tokens_details") or {}
    prompt, output = _ids(prompt_ids), _ids(token_ids)
    return {
        "prompt_token_ids": prompt,
        "token_ids": output,
        "prompt_tokens": _first(_count(usage.get("prompt_tokens")), None if prompt is None else len(prompt)),
        "output_tokens": _first(_count(usage.get("completion_tokens")), None if output is None else len(output)),
        "cached_tokens": _count(details.get("cached_tokens")),
    }


def _json(data: bytes) -> Any:
    """Raises ValueError. Servers in JavaScript send the halves of a character in two events, which orjson refuses."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)


def _text(value: Any) -> str | None:
    """Text, its halves of characters joined, or replaced where one is missing; ``None`` for what is none."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(value: Any) -> int | None:
    """A number of tokens; ``None`` for what cannot be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def _ids(value: Any) -> tuple[int, ...] | None:
    known = isinstance(value, list) and all(type(i) is int and 0 <= i < 1 << 63 for i in value)
    return tuple(value) if known else None


def _first(known: Any, other: Any) -> Any:
    return other if known is None else known


def _refusal(body: bytes, status: int) -> str:
    try:
        return _message(orjson.loads(body))
    except (orjson.JSONDecodeError, AttributeError):
        return _shortened(body) or f"HTTP {status}"


def _message(body: Mapping[str, Any]) -> str:
    """The reason in an error body: OpenAI's, vLLM's older flat one, or FastAPI's."""
    error = body.get("error")
    message = error.get("message") if isinstance(error, Mapping) else error
    return str(message or body.get("message") or body.get("detail") or body)[:LONGEST_ERROR]


def _shortened(body: bytes) -> str:
    return body.decode(errors="replace").strip()[:LONGEST_ERROR]

"""What a server's answer says: plain or streamed, of chat or of plain completions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    complete: bool = True
    """A stream said that it was done."""
    error: str | None = None

    @property
    def whole(self) -> bool:
        """It said that it was done, or why it stopped: not all servers say both, and not all clients read on."""
        return self.complete or self.finish_reason is not None


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
    choice = body["choices"][0]
    message: Mapping[str, Any] = choice.get("message") or {}
    return Answer(
        text=_text(choice["text"] if "text" in choice else message.get("content")),
        tool_calls=tuple(call for call in message.get("tool_calls") or () if isinstance(call, dict)),
        finish_reason=_text(choice.get("finish_reason")),
        **_tokens(
            body.get("usage"),
            _first(body.get("prompt_token_ids"), choice.get("prompt_token_ids")),
            choice.get("token_ids"),
        ),
    )


def _streamed(pieces: Sequence[Piece]) -> Answer:
    text: list[str] = []
    tools: dict[int, dict[str, Any]] = {}
    token_ids: list[int] | None = None
    prompt_ids = usage = finish = error = first_token = None
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
            if choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            word = choice.get("text") or delta.get("content")
            if isinstance(word, str) and word:
                text.append(word)
            for part in delta.get("tool_calls") or ():
                _extend(tools.setdefault(part.get("index", 0), {}), part)
            if (ids := choice.get("token_ids")) is not None:
                token_ids = (token_ids or []) + ids
            prompt_ids = _first(prompt_ids, choice.get("prompt_token_ids"))
            finish = choice.get("finish_reason") or finish
            says = word or ids or delta.get("tool_calls") or delta.get("reasoning") or delta.get("reasoning_content")
            if says and first_token is None:
                first_token = at
    return Answer(
        text=_text("".join(text)) if text or not tools else None,
        tool_calls=tuple(tools[i] for i in sorted(tools)),
        finish_reason=_text(finish),
        first_token_at=first_token,
        chunks_at=tuple(chunks),
        complete=complete,
        error=error,
        **_tokens(usage, prompt_ids, token_ids),
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

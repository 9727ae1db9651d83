"""What is sent for a recorded call: its prompt as recorded, and exactly as much output.

Scaling keeps shared prefixes shared: piece *i* of a prompt (a token, or a word of a message) is sent
``floor((i+1)·s) - floor(i·s)`` times, so equal beginnings stay equal at every scale *s*.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import floor
from typing import Any, Final

import orjson

from rejoule.traces.model import Call

STOPPING: Final = ("stop", "stop_token_ids", "max_completion_tokens", "n", "best_of")
GUIDING: Final = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
)
"""Constraints end the output where they please, against an exact length."""
UNSTREAMED: Final = ("prompt_logprobs",)
"""What a server answers only as a whole."""
_LINES: Final = bytes.maketrans(b",", b"\n")
WORD: Final = re.compile(r"\s*\S+")


def repeats(count: int, scale: float) -> list[int]:
    """How often each of ``count`` pieces is sent at ``scale``."""
    edges = [floor(i * scale) for i in range(count + 1)]
    return [b - a for a, b in pairwise(edges)]


def scaled_ids(ids: Sequence[int], scale: float) -> list[int]:
    """Token ids, each dropped or repeated so that the length is ``scale`` times as large, and at least 1."""
    if scale == 1:
        return list(ids)
    return [i for i, times in zip(ids, repeats(len(ids), scale), strict=True) for _ in range(times)] or list(ids[:1])


def scaled_text(text: str, scale: float) -> str:
    """A text whose words are each dropped or repeated so that it is ``scale`` times as long."""
    if scale == 1:
        return text
    words = WORD.findall(text)
    return "".join(w for w, times in zip(words, repeats(len(words), scale), strict=True) for _ in range(times))


def scaled_length(tokens: int, scale: float) -> int:
    """An output's length in tokens at ``scale``, at least 1."""
    return max(1, round(tokens * scale))


def exact_body(call: Call, *, output_tokens: int, input_scale: float, exact_lengths: bool) -> dict[str, Any]:
    """The JSON body that makes a server do a recorded call's work again.

    With ``exact_lengths`` the server is asked, by vLLM's options, for exactly ``output_tokens``; without, only for
    at most so many, which is all that a server of another kind understands. Streamed, where servers can.
    """
    body = {k: v for k, v in call.request.items() if k not in STOPPING and not (exact_lengths and k in GUIDING)}
    if call.endpoint == "chat":
        body["messages"] = [_scaled_message(m, input_scale) for m in body.get("messages", ())]
    elif isinstance(body.get("prompt"), str):
        body["prompt"] = scaled_text(body["prompt"], input_scale)
    elif isinstance(body.get("prompt"), Sequence):
        body["prompt"] = scaled_ids(body["prompt"], input_scale)
    elif call.prompt_token_ids is not None:
        # Traces that were made, not recorded, hold a prompt once.
        body["prompt"] = scaled_ids(call.prompt_token_ids, input_scale)
    body |= {"max_tokens": output_tokens, "stream": True, "stream_options": {"include_usage": True}}
    if any(body.get(name) is not None for name in UNSTREAMED):
        body = whole_body(body)
    if exact_lengths:
        body |= {"min_tokens": output_tokens, "ignore_eos": True}
        if "tool_choice" in body or "tools" in body:
            body["tool_choice"] = "none"
    return body


def whole_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same request for an answer in one piece."""
    return {name: value for name, value in body.items() if name != "stream_options"} | {"stream": False}


def digest(values: Iterable[Any]) -> str:
    """SHA-256 of JSON values, each on its line."""
    state = hashlib.sha256()
    for value in values:
        state.update(orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
    return state.hexdigest()


def ids_digest(ids: Sequence[int]) -> str:
    """``digest`` of token ids, in one go."""
    # A JSON list of numbers has a comma only between them.
    lines = orjson.dumps(ids).translate(_LINES)[1:-1]
    return hashlib.sha256(lines + b"\n" if lines else b"").hexdigest()


def prompt_of(body: Mapping[str, Any]) -> list[Any]:
    """The parts of a body that make the prompt."""
    return [body.get("messages"), body.get("prompt"), body.get("tools")]


def with_text_in_front(body: Mapping[str, Any], text: str) -> dict[str, Any]:
    """A body whose prompt, which is text, begins with ``text``: in its first message, or in front of a plain prompt."""
    if isinstance(body.get("prompt"), str):
        return {**body, "prompt": f"{text} {body['prompt']}"}
    first, *rest = body["messages"]
    content = first.get("content")
    salted = [{"type": "text", "text": text}, *content] if isinstance(content, list) else f"{text} {content or ''}"
    return {**body, "messages": [{**first, "content": salted}, *rest]}


def _scaled_message(message: Mapping[str, Any], scale: float) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": scaled_text(content, scale)}
    if isinstance(content, list):
        parts = [{**p, "text": scaled_text(p["text"], scale)} if isinstance(p.get("text"), str) else p for p in content]
        return {**message, "content": parts}
    return dict(message)

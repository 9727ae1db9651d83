"""A stateless, reversible tokenizer: a token's id is its own bytes.

Text is cut along word boundaries, the leading space staying with its word, into pieces of at most six UTF-8 bytes. A
piece's id is the integer of those bytes behind a leading ``0x01``, so that encoding needs no vocabulary, decoding no
table, and every id is below 2**49, exact in JSON and in a double. Cutting an encoding after any token gives the
encoding of the shorter text, so an answer quoted in a later prompt has the ids it was generated with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

PIECE_BYTES = 6
_PIECES = re.compile(r" ?\w+| ?[^\w\s]+| +|\n+|\s")

# Two bytes that begin with 0x02 are no piece of text: these ids can only come from the chat template.
BEGIN, START, CONTENT, END, TOOLS, TOOL_CALL = range(0x0200, 0x0206)
SPECIAL = {
    BEGIN: "<|begin|>",
    START: "<|start|>",
    CONTENT: "<|content|>",
    END: "<|end|>",
    TOOLS: "<|tools|>",
    TOOL_CALL: "<|tool_call|>",
}

Message = Mapping[str, Any]


@lru_cache(maxsize=1 << 16)
def _piece_ids(piece: str) -> tuple[int, ...]:
    ids: list[int] = []
    chunk = b""
    for character in piece:
        raw = character.encode("utf-8", "surrogatepass")
        if len(chunk) + len(raw) > PIECE_BYTES:
            ids.append(int.from_bytes(b"\x01" + chunk, "big"))
            chunk = b""
        chunk += raw
    ids.append(int.from_bytes(b"\x01" + chunk, "big"))
    return tuple(ids)


@lru_cache(maxsize=1024)
def encode(text: str) -> tuple[int, ...]:
    """The token ids of ``text``; ``decode(encode(text)) == text`` for every string."""
    return tuple(chain.from_iterable(map(_piece_ids, _PIECES.findall(text))))


@lru_cache(maxsize=1 << 16)
def token_text(token_id: int) -> str:
    """What one token says. An id that no text has, such as another tokenizer's, reads ``<id>``."""
    if token_id in SPECIAL:
        return SPECIAL[token_id]
    if token_id > 0xFF:
        raw = token_id.to_bytes((token_id.bit_length() + 7) // 8, "big")
        if raw[0] == 1 and len(raw) <= PIECE_BYTES + 1:
            try:
                return raw[1:].decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                pass
    return f"<{token_id}>"


def decode(ids: Iterable[int], skip_special: bool = False) -> str:
    """The text of ``ids``; ``skip_special`` leaves out the chat template's markers."""
    if skip_special:
        return "".join(token_text(i) for i in ids if i not in SPECIAL)
    return "".join(map(token_text, ids))


def content_text(content: object) -> str:
    """The text of a message's content: a string, a list of parts, or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(p.get("text", "")) if isinstance(p, Mapping) else str(p) for p in content)
    return str(content)


def tool_call_ids(name: str, arguments: str) -> tuple[int, ...]:
    """One tool call as the model writes it and as the template shows it again."""
    return (TOOL_CALL, *encode(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}'))


def chat_ids(messages: Sequence[Message], tools: Sequence[Any] | None = None, prompt: bool = True) -> list[int]:
    """The prompt of a conversation.

    Appending a message only appends ids, apart from the opening of the answer that ``prompt`` adds.
    """
    ids = [BEGIN]
    if tools:
        ids.append(TOOLS)
        ids += encode(json.dumps(tools, ensure_ascii=False))
        ids.append(END)
    for message in messages:
        ids.append(START)
        ids += encode(str(message.get("role", "user")))
        ids.append(CONTENT)
        ids += encode(content_text(message.get("content")))
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            ids += tool_call_ids(str(function.get("name", "")), str(function.get("arguments", "")))
        ids.append(END)
    if prompt:
        ids.append(START)
        ids += encode("assistant")
        ids.append(CONTENT)
    return ids

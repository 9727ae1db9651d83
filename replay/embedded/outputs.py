"""What the embedded model says: a function of the prompt and the seed.

Lengths are lognormal around a median that belongs to the first message, so that they follow the node of a workflow that
a system prompt stands for. Guided output obeys its schema, pattern or choice, and ends by itself where ``max_tokens``
leaves room for the least that is allowed.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rejoule.replay.embedded.prose import Prose
from rejoule.replay.embedded.scalars import from_pattern
from rejoule.replay.embedded.schema import Writer
from rejoule.replay.embedded.tokenizer import END, TOOL_CALL, decode, encode, tool_call_ids

SIGMA = 0.35
"""Spread of the lognormal length."""
USUAL_TOKENS = 512
"""Where a request sets no ``max_tokens``, lengths are drawn as if it had set this."""
MOST_TOKENS = 1024
"""The greatest ``max_tokens`` that lengths grow with."""
CALL_RATE = 0.8
"""How often a model that may call a tool does so at first; each tool result halves it."""

_BLANK = encode("\n" * 6)


@dataclass(frozen=True)
class Guide:
    """What guided decoding allows: a JSON schema, a regex, or one of some strings."""

    kind: Literal["json", "regex", "choice"]
    value: Any


@dataclass(frozen=True)
class Tool:
    """A function that the model may call, with the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Ask:
    """Everything that an answer depends on.

    ``head`` is the first message, ``text`` the prompt's words; ``tool_choice`` is none, auto, required or the name of a
    tool; ``unlimited`` says that the request set no ``max_tokens``.
    """

    prompt_ids: Sequence[int]
    max_tokens: int
    text: str = ""
    head: str = ""
    min_tokens: int = 0
    ignore_eos: bool = False
    unlimited: bool = False
    guide: Guide | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "none"
    parallel_tool_calls: bool = True
    tool_results: int = 0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class ToolCall:
    """One call: ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Output:
    """What the model said: its token ids, and what of them is text and what tool calls."""

    ids: tuple[int, ...]
    text: str
    finish_reason: Literal["stop", "length", "tool_calls"]
    tool_calls: tuple[ToolCall, ...] = field(default=())


def forced(ids: Sequence[int]) -> Output:
    """An answer of exactly these ids; it counts as stopped if it ends with the end-of-message token."""
    text = decode(ids, skip_special=True)
    return Output(tuple(ids), text, "stop" if ids and ids[-1] == END else "length")


def answer(ask: Ask) -> Output:
    """The model's answer. Raises ``SchemaError`` for a guide that cannot be obeyed."""
    rng = _rng(ask)
    prose = Prose(rng, ask.text)
    if ask.guide is not None:
        return _finish(ask, _guided(ask, ask.guide, rng, prose))
    calls = _chosen(ask, rng)
    if calls:
        return _called(ask, calls, rng, prose)
    wanted = _length(ask, rng)
    ids: list[int] = []
    for sentence in prose.sentences():
        if len(ids) >= wanted:
            break
        ids += encode(sentence)
    return _finish(ask, ids[:wanted])


def _rng(ask: Ask) -> random.Random:
    digest = hashlib.blake2b(array("q", ask.prompt_ids).tobytes(), digest_size=16)
    guide = "" if ask.guide is None else json.dumps(ask.guide.value, sort_keys=True, default=str)
    digest.update(f"{ask.seed}|{guide}|{ask.tool_choice}".encode("utf-8", "surrogatepass"))
    return random.Random(int.from_bytes(digest.digest(), "big"))


def _length(ask: Ask, rng: random.Random) -> int:
    """How many tokens of text to write; ``max_tokens`` of them are cut off, fewer are an answer that ended."""
    if ask.ignore_eos:
        return ask.max_tokens
    head = hashlib.blake2b(ask.head.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    share = 0.1 + 0.5 * int.from_bytes(head, "big") / 2**64
    reference = min(USUAL_TOKENS if ask.unlimited else MOST_TOKENS, ask.max_tokens)
    drawn = round(share * reference * math.exp(rng.gauss(0.0, SIGMA)))
    return max(1, ask.min_tokens - 1, min(drawn, ask.max_tokens))


def _finish(ask: Ask, ids: Sequence[int], calls: tuple[ToolCall, ...] = ()) -> Output:
    """Close what was written within the bounds that the request sets on its number of tokens."""
    body = list(ids)
    if ask.stop:
        body, stopped = _stopped(body, ask.stop)
        if stopped and len(body) <= ask.max_tokens:
            text = decode(body, skip_special=True)
            return Output(tuple(body), text[: min(text.find(s) for s in ask.stop if s in text)], "stop")
    least = ask.max_tokens if ask.ignore_eos else ask.min_tokens - 1
    body += _BLANK * max(0, least - len(body))
    if len(body) >= ask.max_tokens:
        body = body[: ask.max_tokens]
        calls = calls if len(ids) <= ask.max_tokens else ()
        return Output(tuple(body), "" if calls else decode(body, skip_special=True), "length", calls)
    text = "" if calls else decode(body, skip_special=True)
    return Output((*body, END), text, "tool_calls" if calls else "stop", calls)


def _stopped(ids: list[int], stop: Sequence[str]) -> tuple[list[int], bool]:
    """``ids`` up to the token with which one of the stop strings is complete, and whether there is one."""
    text = ""
    for count, token in enumerate(ids, 1):
        text += decode((token,), skip_special=True)
        if any(one in text for one in stop):
            return ids[:count], True
    return ids, False


def _guided(ask: Ask, guide: Guide, rng: random.Random, prose: Prose) -> list[int]:
    if guide.kind == "choice":
        return list(encode(str(rng.choice(guide.value))))
    shortest: list[int] | None = None
    for size in (2, 2, 1, 1, 0, 0, 0, 0):
        if guide.kind == "json":
            text = json.dumps(Writer(guide.value, rng, prose, size).value(), ensure_ascii=False)
        else:
            text = from_pattern(rng, guide.value, whole=True, spread=6 * size)
        ids = list(encode(text))
        if len(ids) < ask.max_tokens:
            return ids
        if shortest is None or len(ids) < len(shortest):
            shortest = ids
    assert shortest is not None
    return shortest


def _chosen(ask: Ask, rng: random.Random) -> list[Tool]:
    """The tools that this answer calls."""
    if not ask.tools or ask.tool_choice == "none":
        return []
    if ask.tool_choice not in ("auto", "required"):
        return [tool for tool in ask.tools if tool.name == ask.tool_choice][:1]
    if ask.tool_choice == "auto" and rng.random() >= CALL_RATE * 0.5**ask.tool_results:
        return []
    count = rng.choices((1, 2, 3), (75, 20, 5))[0] if ask.parallel_tool_calls else 1
    return [rng.choice(ask.tools) for _ in range(count)]


def _called(ask: Ask, tools: list[Tool], rng: random.Random, prose: Prose) -> Output:
    """An answer that calls ``tools``, or fewer of them if ``max_tokens`` leaves no room."""
    for size in (2, 1, 0, 0):
        calls = []
        ids: list[int] = []
        for tool in tools if size else tools[:1]:
            value = Writer(tool.parameters or {"type": "object"}, rng, prose, size).value()
            arguments = json.dumps(value, ensure_ascii=False)
            calls.append(ToolCall(f"call_{rng.getrandbits(96):024x}", tool.name, arguments))
            ids += tool_call_ids(tool.name, arguments)
        if len(ids) < ask.max_tokens:
            break
    named = ask.tool_choice not in ("auto", "required")
    done = _finish(ask, ids, tuple(calls))
    # A call that the request itself named ends like any text.
    return Output(done.ids, done.text, "stop", done.tool_calls) if named and done.ids[-1] == END else done


def deltas(said: Output) -> list[dict[str, Any]]:
    """What each token of an answer adds to a streamed chat message."""
    if not said.tool_calls:
        left = len(said.text)
        result: list[dict[str, Any]] = []
        for token in said.ids:
            text = decode((token,), skip_special=True)[:left]
            left -= len(text)
            result.append({"content": text} if text else {})
        return result
    result = []
    index = -1
    written = 0
    for token in said.ids:
        if token == TOOL_CALL:
            index += 1
            written = 0
            call = said.tool_calls[index]
            opening = f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "arguments": '
            function = {"name": call.name, "arguments": ""}
            result.append({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
            continue
        text = decode((token,), skip_special=True)
        first, last = written - len(opening), written + len(text) - len(opening)
        written += len(text)
        fragment = call.arguments[max(0, first) : max(0, last)]
        result.append({"tool_calls": [{"index": index, "function": {"arguments": fragment}}]} if fragment else {})
    return result

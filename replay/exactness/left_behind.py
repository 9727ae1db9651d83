"""What a run itself can have left in a server's prefix cache, where only texts are known, not token ids.

A call finds there what calls before it began with: of each, the beginning that the two have in common, and if that is
all of the earlier prompt, perhaps its answer, too. What it finds beyond that was left by other runs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from rejoule.traces.run import CallResult

TEMPLATE: Final = 64
"""Tokens that a server's chat template may put in front of every prompt."""
DENSER: Final = 2.0
"""How many times more tokens a stretch of a prompt may hold than its share of the characters."""
_END: Final = "\x00"


@dataclass(frozen=True, slots=True)
class Beyond:
    """A call that found more than the run had left."""

    id: str
    cached_tokens: int
    most: int
    """What it could have found."""


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt as text."""

    text: str
    tools: int
    """Characters of its tools. A chat template puts them somewhere: they may always be shared."""


def text_of(prompt: Sequence[Any], number: int) -> Text:
    """The parts of a body that make a prompt; ``number`` is that of the pass, which has a cache of its own."""
    messages, plain, tools = prompt
    parts = [str(number)]
    parts += [f"{m.get('role')} {_plain(m.get('content'))} {_plain(m.get('tool_calls'))}" for m in messages or ()]
    if plain is not None:
        parts.append(_plain(plain))
    return Text(_END.join(parts) + _END, 0 if tools is None else len(_plain(tools)))


def beyond(results: Sequence[CallResult], texts: Mapping[str, Text]) -> list[Beyond]:
    """The calls that found more than the run can have left by then; calls that tell too little are none of them."""
    waiting = sorted(results, key=lambda r: r.sent_s, reverse=True)
    sent: list[tuple[str, str]] = []
    found = []
    by_id = {r.id: r for r in results}
    for result in sorted(results, key=lambda r: r.end_s if r.first_token_s is None else r.first_token_s):
        read_s = result.end_s if result.first_token_s is None else result.first_token_s
        while waiting and waiting[-1].sent_s <= read_s:
            one = waiting.pop()
            insort(sent, (texts[one.id].text, one.id))
        if not result.cached_tokens or result.prompt_tokens is None:
            continue
        most = (
            max((_most(result, by_id[name], texts) for name in _nearest(sent, result.id, texts)), default=0) + TEMPLATE
        )
        if result.cached_tokens > most:
            found.append(Beyond(result.id, result.cached_tokens, most))
    return found


def _nearest(sent: Sequence[tuple[str, str]], name: str, texts: Mapping[str, Text]) -> list[str]:
    """The calls whose texts have the longest beginnings in common with a call's: its neighbours in their order."""
    at = bisect_left(sent, (texts[name].text, name))
    return [other for _, other in (*sent[max(0, at - 1) : at], *sent[at + 1 : at + 2])]


def _most(result: CallResult, earlier: CallResult, texts: Mapping[str, Text]) -> int:
    mine, other = texts[result.id], texts[earlier.id]
    shared = _shared(mine.text, other.text)
    tokens = result.prompt_tokens or 0
    if shared >= len(other.text) - 1:
        return min(tokens, (earlier.prompt_tokens or tokens) + (earlier.output_tokens or 0))
    # The number of the pass and the ends of parts are no text.
    return min(tokens, round(DENSER * tokens * (max(0, shared - 3) + mine.tools) / (len(mine.text) + mine.tools)))


def _shared(a: str, b: str) -> int:
    """How many characters two texts begin with in common."""
    return bisect_left(range(min(len(a), len(b))), True, key=lambda at: a[: at + 1] != b[: at + 1])


def _plain(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return "".join(part["text"] for part in value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()

"""Where the text of every prompt came from: the node's own words, the workflow's input, or an earlier call's output.

An output is quoted where it, or a text inside its JSON, appears in a later prompt letter for letter. The longest
quotation wins, and of equal ones that from the call that ended last. Of the rest, what every call of a node says at
the same place is static, and all else is input.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from rejoule.traces.model import Call, PromptPart, Trace, Workflow

SHORTEST = 16
"""Characters below which a match may well be chance."""

INSTRUCTIONS = frozenset({"system", "developer"})
"""Roles whose messages are static where there is nothing to compare them with."""

Message = tuple[str | None, str]
"""A role and a text."""


def messages(request: Mapping[str, Any]) -> list[Message]:
    """The messages of a request as texts: their content, followed by the arguments of their tool calls.

    A plain prompt is one message without a role; a prompt of token ids has no text.
    """
    if "messages" in request:
        return [(message.get("role"), _text(message)) for message in request["messages"]]
    prompt = request.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    return [(None, text if isinstance(text, str) else "") for text in prompts]


class Lineage:
    """The outputs of one workflow so far, to be found in its prompts."""

    def __init__(self) -> None:
        self._index: dict[str, dict[str, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))
        """Texts by how they begin, and the calls that wrote each."""

    def learn(self, call: Call) -> None:
        """Remembers what a call wrote."""
        for fragment in dict.fromkeys(_fragments(call)):
            self._index[fragment[:SHORTEST]][fragment].append((call.end_ns, call.id))

    def parts(self, call: Call, static: Sequence[int | None] = ()) -> tuple[PromptPart, ...]:
        """Every message of a call's prompt in parts, in order and without gaps.

        ``static`` says how many characters at the start of each message are the node's own; by default all of an
        instruction's and none of any other's.
        """
        found: list[PromptPart] = []
        for number, (role, text) in enumerate(messages(call.request)):
            own = static[number] if number < len(static) else None
            if own is None:
                own = len(text) if role in INSTRUCTIONS else 0
            found += _tiled(number, text, own, self._quotations(text, call.submit_ns))
        return tuple(found)

    def _quotations(self, text: str, submit_ns: int) -> list[tuple[int, int, str]]:
        """Stretches of the text that a call wrote which had ended by then, in order and apart from each other."""
        matches: list[tuple[int, int, int, str]] = []
        for start in range(len(text) - SHORTEST + 1) if self._index else ():
            begun = self._index.get(text[start : start + SHORTEST])
            for fragment, writers in begun.items() if begun else ():
                ended = max(((end_ns, id) for end_ns, id in writers if end_ns <= submit_ns), default=None)
                if ended is not None and text.startswith(fragment, start):
                    matches.append((-len(fragment), -ended[0], start, ended[1]))
        taken: list[tuple[int, int, str]] = []
        for length, _, start, id in sorted(matches):
            end = start - length
            if all(end <= a or b <= start for a, b, _ in taken):
                taken.append((start, end, id))
        return sorted(taken)


def annotate(trace: Trace) -> Trace:
    """The same trace with the parts of every prompt, static ones found by comparing all calls of each node."""
    prompts: dict[str, list[list[Message]]] = defaultdict(list)
    for call in trace.calls:
        prompts[call.node].append(messages(call.request))
    static = {node: _common(calls) for node, calls in prompts.items()}
    return replace(trace, workflows=tuple(_annotated(workflow, static) for workflow in trace.workflows))


def _annotated(workflow: Workflow, static: Mapping[str, Sequence[int | None]]) -> Workflow:
    lineage = Lineage()
    for call in workflow.calls:
        lineage.learn(call)
    calls = tuple(replace(call, parts=lineage.parts(call, static[call.node])) for call in workflow.calls)
    return replace(workflow, calls=calls)


def _common(prompts: Sequence[Sequence[Message]]) -> list[int | None]:
    """For each place in a node's prompts, how much all calls with a message there have in common at its start."""
    longest = max((len(prompt) for prompt in prompts), default=0)
    found: list[int | None] = []
    for place in range(longest):
        texts = [prompt[place][1] for prompt in prompts if place < len(prompt)]
        if len(texts) < 2:
            found.append(None)
            continue
        shared = _shared(texts)
        whole = all(len(text) == shared for text in texts)
        found.append(shared if whole or shared >= SHORTEST else 0)
    return found


def _shared(texts: Sequence[str]) -> int:
    """Characters that all texts begin with: those of the two that are furthest apart in order."""
    first, last = min(texts), max(texts)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))


def _tiled(message: int, text: str, own: int, quotations: Iterable[tuple[int, int, str]]) -> Iterator[PromptPart]:
    at = 0
    for start, end, source in [*quotations, (len(text), len(text), "")]:
        if at < (border := min(own, start)):
            yield PromptPart("static", message, at, border)
            at = border
        if at < start:
            yield PromptPart("input", message, at, start)
        if start < end:
            yield PromptPart("quoted", message, start, end, source)
        at = end


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return str(content or "") + "".join(str(_arguments(call) or "") for call in message.get("tool_calls") or ())


def _arguments(tool_call: Mapping[str, Any]) -> Any:
    function = tool_call.get("function")
    return function.get("arguments") if isinstance(function, Mapping) else None


def _fragments(call: Call) -> Iterator[str]:
    """Every text that a call wrote and a later prompt may quote."""
    outputs = [call.text, *map(_arguments, call.tool_calls)]
    for output in outputs:
        if not isinstance(output, str):
            continue
        for text in (output, output.strip(), *_strings(_json(output))):
            if len(text.strip()) >= SHORTEST:
                yield text


def _json(text: str) -> Any:
    """The JSON value in an output, fenced or not; ``None`` where there is none."""
    body = text.strip()
    if body.startswith("```"):
        body = body.partition("\n")[2].rpartition("```")[0].strip()
    if not body.startswith(("{", "[")):
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)

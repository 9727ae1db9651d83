"""What a run can have left in a prefix cache, by the texts of its prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rejoule.replay.exactness.left_behind import TEMPLATE, beyond, text_of
from rejoule.traces.run import CallResult

TOOLS = [{"type": "function", "function": {"name": "look_up", "description": "words " * 100}}]


def answered(name: str, at_s: float, cached: int, prompt: int = 500, output: int = 20) -> CallResult:
    return CallResult(name, "w", "n", at_s, at_s, at_s + 1.0, at_s + 0.5, prompt, cached, output)


def found(prompts: Mapping[str, list[Any]], *results: CallResult) -> list[str]:
    texts = {name: text_of(prompt, 1) for name, prompt in prompts.items()}
    return [one.id for one in beyond(results, texts)]


def said(*words: str, tools: Any = None) -> list[Any]:
    roles = ("system", "user", "assistant", "user")
    return [[{"role": role, "content": word} for role, word in zip(roles, words, strict=False)], None, tools]


def test_a_first_call_finds_a_template_at_most() -> None:
    """What is more was there before the run."""
    prompts = {"a": said("rule " * 100, "hello")}
    assert found(prompts, answered("a", 0.0, TEMPLATE)) == []
    assert found(prompts, answered("a", 0.0, TEMPLATE + 1)) == ["a"]


def test_a_later_call_may_find_what_it_begins_with() -> None:
    """A shared beginning, in any order of sending that overlaps; nothing of a call that was sent later."""
    prompts = {"a": said("rule " * 300, "hello"), "b": said("rule " * 300, "and you?")}
    assert found(prompts, answered("a", 0.0, 480), answered("b", 0.1, 480)) == []
    assert found(prompts, answered("a", 0.0, 480), answered("b", 5.0, 480)) == ["a"]
    assert found({**prompts, "b": said("other " * 300, "x")}, answered("a", 0.0, 0), answered("b", 5.0, 480)) == ["b"]


def test_a_conversation_may_find_its_answers() -> None:
    """All of the earlier prompt and of its answer, not more."""
    prompts = {"a": said("rule", "hello"), "b": said("rule", "hello", "word " * 400, "go on")}
    first = answered("a", 0.0, 0, prompt=10, output=400)
    assert found(prompts, first, answered("b", 5.0, 410)) == []
    assert found(prompts, first, answered("b", 5.0, 410 + TEMPLATE + 1)) == ["b"]


def test_tools_may_stand_anywhere() -> None:
    """Equal messages with other tools, and equal tools with other messages, may share what they have in common."""
    other = [{"type": "function", "function": {"name": "write", "description": "texts " * 100}}]
    prompts = {"a": said("rule " * 100, "x", tools=TOOLS), "b": said("rule " * 100, "x", tools=other)}
    assert found(prompts, answered("a", 0.0, 0), answered("b", 5.0, 250)) == []
    prompts = {"a": said("one", "x", tools=TOOLS), "b": said("two " * 50, "y", tools=TOOLS)}
    assert found(prompts, answered("a", 0.0, 0), answered("b", 5.0, 350)) == []

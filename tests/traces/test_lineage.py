"""Where the text of prompts came from."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from rejoule.traces.lineage import Lineage, annotate, messages
from rejoule.traces.model import Call, Header, PromptPart, Trace, Workflow

PLAN = "First read the report, then write the summary."


def call(number: int, *contents: tuple[str, str], text: str | None = None, node: str = "n", **fields: Any) -> Call:
    """A call that took its second number ``number``."""
    return Call(
        id=f"w0000/c{number:03d}",
        workflow="w0000",
        task=f"w0000/n{number:03d}",
        node=node,
        endpoint="chat",
        request={"messages": [{"role": role, "content": content} for role, content in contents]},
        submit_ns=number * 10,
        end_ns=number * 10 + 5,
        text=text,
        **fields,
    )


def trace(*calls: Call) -> Trace:
    return Trace(Header("g", "m"), (Workflow("w0000", "g", 0, 10**9, calls=calls),))


def said(found: Call) -> list[tuple[str, str]]:
    """The parts of a prompt as kinds and texts."""
    texts = messages(found.request)
    return [(part.kind, texts[part.message][1][part.start : part.end]) for part in found.parts]


def annotated(*calls: Call) -> list[Call]:
    return list(annotate(trace(*calls)).calls)


def test_whole_output_is_quoted() -> None:
    """An output that stands in a later prompt is quoted from the call that wrote it."""
    first = call(0, ("user", "Make a plan, please."), text=f"{PLAN}\n")
    second = call(1, ("system", "You write."), ("user", f"The plan: {PLAN} Go on."), node="write")
    found = annotated(first, second)
    assert said(found[1]) == [
        ("static", "You write."),
        ("input", "The plan: "),
        ("quoted", PLAN),
        ("input", " Go on."),
    ]
    assert found[1].parts[2].source == first.id


def test_leaves_of_json_and_arguments_are_quoted() -> None:
    """Texts inside JSON outputs, fenced or not, and inside the arguments of tool calls are found."""
    output = orjson.dumps({"steps": [{"do": PLAN}], "n": 1}).decode()
    arguments = orjson.dumps({"query": "energy of language models"}).decode()
    tools = ({"id": "1", "function": {"name": "search", "arguments": arguments}},)
    first = call(0, text=f"```json\n{output}\n```", tool_calls=tools)
    second = call(1, ("user", f"{PLAN} / energy of language models / {arguments}"))
    assert [(kind, text) for kind, text in said(annotated(first, second)[1]) if kind == "quoted"] == [
        ("quoted", PLAN),
        ("quoted", "energy of language models"),
        ("quoted", arguments),
    ]


def test_arguments_of_a_message_are_part_of_its_text() -> None:
    """An assistant's message that repeats its tool call quotes it."""
    arguments = '{"city": "a city with a long name"}'
    tool = {"id": "1", "function": {"name": "weather", "arguments": arguments}}
    first = call(0, tool_calls=(tool,))
    second = replace(call(1), request={"messages": [{"role": "assistant", "content": None, "tool_calls": [tool]}]})
    assert said(annotated(first, second)[1]) == [("quoted", arguments)]


def test_only_what_had_ended_is_quoted() -> None:
    """A call that was still writing when the prompt was sent is no source."""
    late = replace(call(0, text=PLAN), end_ns=11)
    assert said(annotated(late, call(1, ("user", PLAN)))[1]) == [("input", PLAN)]


def test_longest_wins_and_then_the_latest() -> None:
    """Of overlapping quotations the longest is taken, of equal ones the most recent."""
    longer = f"Well: {PLAN} And then rest."
    calls = [call(0, text=longer), call(1, text=PLAN), call(2, text=PLAN), call(3, ("user", f"{longer} {PLAN}"))]
    quoted = [part.source for part in annotated(*calls)[3].parts if part.kind == "quoted"]
    assert quoted == ["w0000/c000", "w0000/c002"]


def test_short_outputs_are_no_quotations() -> None:
    """A short output may appear by chance."""
    assert said(annotated(call(0, text="yes"), call(1, ("user", "yes or no?")))[1]) == [("input", "yes or no?")]


def test_static_is_what_all_calls_of_a_node_share() -> None:
    """A template's beginning is static by comparison; its filling is input."""
    prompts = ["Summarise this text: cats", "Summarise this text: dogs"]
    found = annotated(*(call(i, ("system", "Be brief."), ("user", text)) for i, text in enumerate(prompts)))
    assert said(found[0]) == [("static", "Be brief."), ("static", "Summarise this text: "), ("input", "cats")]


def test_instructions_alone_are_static_without_comparison() -> None:
    """With one call of a node, only its instructions are taken for its own words."""
    (found,) = annotated(call(0, ("developer", "Be brief."), ("user", "Tell me about cats.")))
    assert said(found) == [("static", "Be brief."), ("input", "Tell me about cats.")]


def test_prompts_without_messages() -> None:
    """A plain prompt is message 0; token ids have no text; content in pieces is one text."""
    plain = replace(call(0), request={"prompt": "Once upon a time"})
    assert annotated(plain)[0].parts == (PromptPart("input", 0, 0, 16),)
    assert annotated(replace(call(0), request={"prompt": [1, 2, 3]}))[0].parts == ()
    pieces = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert messages({"messages": [{"role": "user", "content": pieces}]}) == [("user", "ab")]


@given(st.lists(st.text("ab \n", max_size=60), min_size=1, max_size=6), st.randoms())
def test_parts_tile_every_message(outputs: list[str], choose: random.Random) -> None:
    """Whatever is quoted, parts cover each message once, in order, and say what stands there."""
    calls = [call(i, text=output) for i, output in enumerate(outputs)]
    content = "".join(choose.choice([*outputs, "own words "]) for _ in range(5))
    calls.append(call(len(calls), ("system", content[:7]), ("user", content)))
    found = annotated(*calls)[-1]
    for number, (_, text) in enumerate(messages(found.request)):
        parts = [part for part in found.parts if part.message == number]
        assert [part.start for part in parts] == [0, *(part.end for part in parts)][: len(parts)]
        assert sum(part.end - part.start for part in parts) == len(text)
        for part in parts:
            if part.source is not None:
                source = next(c for c in calls if c.id == part.source)
                assert source.text is not None and text[part.start : part.end] in source.text


def test_long_histories_are_quick() -> None:
    """Hundreds of calls with prompts of tens of kB take seconds, not minutes."""
    choose = random.Random(0)
    words = [choose.randbytes(6).hex() for _ in range(500)]
    lineage, history = Lineage(), ""
    begun = time.process_time()
    for number in range(200):
        output = " ".join(choose.choices(words, k=30))
        prompt = call(number, ("user", history[-40_000:]))
        quoted = [part for part in lineage.parts(prompt) if part.kind == "quoted"]
        assert len(quoted) >= min(number, 100) - 1
        lineage.learn(replace(prompt, text=output))
        history += f"\n{output}"
    assert time.process_time() - begun < 10

"""What the embedded model says: seeded, of the right length, and obedient to schemas, patterns and tool choice."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.embedded import tokenizer
from rejoule.replay.embedded.outputs import Ask, Guide, Tool, answer, deltas
from rejoule.replay.embedded.scalars import SchemaError

PROMPT = "Please compare the turbine with the reactor and judge their efficiency."


def ask(prompt: str = PROMPT, max_tokens: int = 400, **more: Any) -> Ask:
    return Ask(tokenizer.encode(prompt), max_tokens, text=prompt, **more)


names = st.sampled_from(["title", "summary", "score", "done", "items", "next", "kind"])
leaves = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b}, st.integers(-9, 9), st.integers(0, 9)),
    st.builds(
        lambda a, b: {"type": "number", "exclusiveMinimum": a, "maximum": a + b},
        st.floats(-9, 9).map(lambda x: round(x, 3)),
        st.floats(0.01, 9),
    ),
    st.builds(lambda m: {"type": "integer", "multipleOf": m}, st.integers(1, 7)),
    st.builds(
        lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b}, st.integers(0, 30), st.integers(0, 30)
    ),
    st.sampled_from(
        [
            {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
            {"type": "string", "pattern": "(low|high)"},
            {"type": "string", "format": "date"},
            {"type": ["string", "null"]},
            {"enum": ["red", "green", 3, None]},
            {"const": {"a": [1]}},
            {"type": "number"},
            True,
            {},
        ]
    ),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda properties, need: {
                "type": "object",
                "properties": properties,
                "required": [key for key in properties if key in need],
                "additionalProperties": False,
            },
            st.dictionaries(names, inner, max_size=4),
            st.sets(names),
        ),
        st.builds(
            lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
            inner,
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda a: {"type": "object", "additionalProperties": a, "minProperties": 1}, inner),
        st.builds(
            lambda a: {"type": "object", "properties": {"x": a, "y": {"$ref": "#/$defs/date"}}, "required": ["x", "y"]},
            inner,
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(schemas, st.integers(0, 5))
def test_answers_obey_their_schema(schema: Any, seed: int) -> None:
    """Every answer that ended by itself is JSON and valid, whatever the schema."""
    schema = {"$defs": {"date": {"type": "string", "format": "date"}}, "allOf": [schema]}
    said = answer(ask(guide=Guide("json", schema), seed=seed, max_tokens=4000))
    assert said.finish_reason == "stop"
    jsonschema.validate(json.loads(said.text), schema)


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["name", "children", "next"],
        }
    },
    "$ref": "#/$defs/node",
}


@settings(deadline=None)
@given(st.integers(0, 200))
def test_recursive_schemas_end(seed: int) -> None:
    """A schema that refers to itself is answered with a finite, valid value that fits."""
    said = answer(ask(guide=Guide("json", TREE), seed=seed, max_tokens=200))
    assert said.finish_reason == "stop"
    jsonschema.validate(json.loads(said.text), TREE)


@settings(deadline=None)
@given(st.integers(0, 200))
def test_one_of_and_all_of_hold_too(seed: int) -> None:
    """A tagged union and an intersection are obeyed."""
    schema = {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": k}, "n": {"type": "integer"}},
                "required": ["kind", "n"],
            }
            for k in ("a", "b")
        ],
    }
    both = {"allOf": [{"properties": {"p": schema}, "required": ["p"]}, {"type": "object", "required": ["q"]}]}
    said = answer(ask(guide=Guide("json", both), seed=seed, max_tokens=2000))
    jsonschema.validate(json.loads(said.text), both)


@pytest.mark.parametrize("pattern", ["yes|no", r"\d{3}-[a-f]+", r"^(?:[A-Z][a-z]{1,4} ){2}end$", r"\w+@\w+\.com"])
def test_answers_obey_a_regex(pattern: str) -> None:
    """The whole answer matches."""
    for seed in range(30):
        said = answer(ask(guide=Guide("regex", pattern), seed=seed, max_tokens=300))
        assert re.fullmatch(pattern, said.text)


def test_choices_are_all_taken() -> None:
    """A choice among strings gives each of them now and then, and nothing else."""
    choices = ["approve", "revise", "reject"]
    assert {answer(ask(guide=Guide("choice", choices), seed=s)).text for s in range(60)} == set(choices)


def test_booleans_and_enums_come_out_even() -> None:
    """Branches of a graph are all taken: a boolean is true about half of the time."""
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    share = statistics.mean(json.loads(answer(ask(guide=Guide("json", schema), seed=s)).text)["ok"] for s in range(400))
    assert 0.4 < share < 0.6


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/none"},
        {"$ref": "http://x/y"},
        {"type": "integer", "minimum": 3, "maximum": 2},
        False,
        {"enum": []},
    ],
)
def test_what_cannot_be_obeyed_is_refused(schema: Any) -> None:
    """A contradiction or a dangling reference is an error, not an endless loop."""
    with pytest.raises(SchemaError):
        answer(ask(guide=Guide("json", schema)))


def test_code_is_valid_python_that_sometimes_raises() -> None:
    """A string of media type text/x-python compiles; when run, about a third of the modules raise."""
    schema = {
        "type": "object",
        "properties": {"code": {"type": "string", "contentMediaType": "text/x-python"}},
        "required": ["code"],
    }
    failed = 0
    for seed in range(200):
        said = answer(ask(guide=Guide("json", schema), seed=seed, max_tokens=2000))
        code = compile(json.loads(said.text)["code"], "module.py", "exec")
        assert any(hasattr(c, "co_name") for c in code.co_consts)
        try:
            exec(code, {"print": lambda *_: None})
        except Exception:
            failed += 1
    assert 40 < failed < 100


SEARCH = Tool("search", {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]})
OPEN = Tool("open", {"type": "object", "properties": {"page": {"type": "integer"}}, "required": ["page"]})


@pytest.mark.parametrize("choice", ["required", "open", "auto"])
def test_tool_calls_obey_the_choice_and_the_parameters(choice: str) -> None:
    """Required and named calls are always made, automatic ones mostly; all have valid arguments."""
    called = 0
    for seed in range(60):
        said = answer(ask(tools=(SEARCH, OPEN), tool_choice=choice, seed=seed))
        called += bool(said.tool_calls)
        for call in said.tool_calls:
            tool = {"search": SEARCH, "open": OPEN}[call.name]
            assert choice in ("auto", "required", call.name)
            jsonschema.validate(json.loads(call.arguments), tool.parameters)
        assert said.finish_reason == ("stop" if choice == "open" or not said.tool_calls else "tool_calls")
    assert called == 60 or (choice == "auto" and 35 < called < 60)


def test_tool_loops_end() -> None:
    """The more results a conversation has, the rarer another call."""
    rates = []
    for results in range(5):
        asks = [ask(tools=(SEARCH,), tool_choice="auto", tool_results=results, seed=seed) for seed in range(200)]
        rates.append(sum(bool(answer(one).tool_calls) for one in asks))
    assert rates == sorted(rates, reverse=True)
    assert rates[4] < 20


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(0, 200), st.booleans(), st.integers(0, 9))
def test_answers_have_an_allowed_number_of_tokens(most: int, least: int, ignore_eos: bool, seed: int) -> None:
    """Between min_tokens and max_tokens, and exactly max_tokens where the end is ignored or both are equal."""
    least = min(least, most)
    for more in ({}, {"guide": Guide("choice", ["a", "b"])}, {"tools": (SEARCH,), "tool_choice": "required"}):
        said = answer(ask(max_tokens=most, min_tokens=least, ignore_eos=ignore_eos, seed=seed, **more))
        assert max(1, least) <= len(said.ids) <= most
        assert not ignore_eos or len(said.ids) == most
        assert (said.finish_reason == "length") == (said.ids[-1] != tokenizer.END)


def test_lengths_follow_the_first_message() -> None:
    """Answers under one system prompt have similar lengths, under different ones different lengths."""
    medians = []
    for head in ("You plan.", "You review.", "You write code."):
        lengths = [len(answer(ask(f"{head} {i}", head=head, max_tokens=800)).ids) for i in range(60)]
        assert statistics.pstdev(lengths) / statistics.mean(lengths) < 0.6
        medians.append(statistics.median(lengths))
    assert max(medians) > 1.2 * min(medians)


def test_answers_echo_the_prompt_and_read_like_sentences() -> None:
    """Text has the prompt's own words in it, capitals and full stops."""
    text = answer(ask(max_tokens=600, min_tokens=300)).text
    assert "turbine" in text or "reactor" in text
    assert re.match(r"[A-Z]", text)
    assert ". " in text


def test_a_stop_string_ends_the_answer_before_it() -> None:
    """The text ends where the stop string would begin."""
    whole = answer(ask(max_tokens=300, min_tokens=200)).text
    word = whole.split()[8]
    said = answer(ask(max_tokens=300, min_tokens=200, stop=(word,)))
    assert said.finish_reason == "stop"
    assert said.text == whole[: whole.index(word)]


@settings(deadline=None)
@given(st.integers(0, 50), st.sampled_from(["none", "required"]))
def test_streamed_pieces_add_up_to_the_answer(seed: int, choice: str) -> None:
    """Joined in order, the deltas are the text, or the names and arguments of the tool calls."""
    said = answer(ask(tools=(SEARCH, OPEN), tool_choice=choice, seed=seed))
    pieces = deltas(said)
    assert len(pieces) == len(said.ids)
    assert "".join(p.get("content", "") for p in pieces) == said.text
    calls: dict[int, list[str]] = {}
    for piece in pieces:
        for call in piece.get("tool_calls", []):
            start = [call["id"], call["function"]["name"], ""] if "id" in call else calls[call["index"]]
            calls[call["index"]] = [*start[:2], start[2] + call["function"]["arguments"]]
    assert [tuple(c) for c in calls.values()] == [(c.id, c.name, c.arguments) for c in said.tool_calls]


def test_a_tool_call_quoted_in_the_next_prompt_has_the_ids_it_was_generated_with() -> None:
    """A conversation that goes on after tool calls hits the prefix cache on them."""
    history: list[dict[str, Any]] = [{"role": "user", "content": "Find it."}]
    prompt = tokenizer.chat_ids(history)
    said = answer(Ask(prompt, 500, tools=(SEARCH,), tool_choice="required"))
    calls = [{"function": {"name": c.name, "arguments": c.arguments}} for c in said.tool_calls]
    longer = tokenizer.chat_ids([*history, {"role": "assistant", "content": None, "tool_calls": calls}])
    whole = [*prompt, *said.ids]
    assert longer[: len(whole)] == whole


SCRIPT = f"""
from rejoule.replay.embedded.outputs import Ask, Guide, answer
from rejoule.replay.embedded.tokenizer import encode
schema = {TREE!r}
for seed in range(20):
    print(answer(Ask(encode("a b c"), 300, text="words worth repeating", seed=seed)).ids)
    print(answer(Ask(encode("a b c"), 300, guide=Guide("json", schema), seed=seed)).text)
    print(answer(Ask(encode("a b c"), 300, guide=Guide("regex", "[a-z]+[^x]\\\\W"), seed=seed)).text)
"""


def test_answers_are_equal_in_any_process() -> None:
    """Neither the process nor its hash seed shows in what the model says."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ".src"},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1

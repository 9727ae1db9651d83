"""What ``rejoule inspect`` says of a trace."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rejoule.traces.commands import inspect
from rejoule.traces.model import Call, Trace
from rejoule.traces.overview import BLOCK, figures, overview, sharing
from rejoule.traces.store import save
from rejoule.traces.testing import made_call, made_trace, made_workflow, random_trace
from rejoule.traces.work import account


def call(number: int, prompt: tuple[int, ...], output: tuple[int, ...] = ()) -> Call:
    """A call of these token ids."""
    made = made_call("w0000", f"c{number}", number, number + 1)
    return replace(made, prompt_token_ids=prompt, token_ids=output)


def test_equal_prompts_share_all_but_the_last_block() -> None:
    """Whole blocks are shared, and never the last token, which has to be computed."""
    prompt = tuple(range(2 * BLOCK))
    assert sharing([call(0, prompt), call(1, prompt)]) == (0.25, "tokens")
    assert sharing([call(0, (*prompt, 1)), call(1, (*prompt, 2))])[0] == pytest.approx(32 / 66)
    assert sharing([call(0, (1, *prompt)), call(1, (2, *prompt))])[0] == 0
    assert sharing([]) == (None, None)


def test_conversations_share_what_the_model_wrote() -> None:
    """A prompt that goes on after an earlier answer shares that answer too."""
    first, answer = tuple(range(20)), tuple(range(20, 40))
    assert sharing([call(0, first, answer), call(1, (*first, *answer, 99))])[0] == 32 / 61


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_no_cache_hits_more(seed: int, order: int) -> None:
    """A prefix cache that forgets nothing hits at most what is said, in whatever order the calls come."""
    source = random.Random(seed)
    calls: list[Call] = []
    for number in range(8):
        begun = source.choice([(), *((*c.prompt_token_ids, *c.token_ids) for c in calls)])  # type: ignore[misc]
        prompt = (*begun[: source.randint(0, 100)], *source.choices(range(2), k=source.randint(1, 40)))
        calls.append(call(number, prompt, tuple(source.choices(range(2), k=source.randint(0, 40)))))
    cached: set[tuple[int, ...]] = set()
    hits = 0
    for made in random.Random(order).sample(calls, len(calls)):
        prompt = made.prompt_token_ids or ()
        both = (*prompt, *(made.token_ids or ()))
        for end in range(BLOCK, len(prompt), BLOCK):
            if prompt[:end] not in cached:
                break
            hits += BLOCK
        cached |= {both[:end] for end in range(BLOCK, len(both) + 1, BLOCK)}
    bound = sharing(calls)[0]
    assert bound is not None
    assert hits <= round(bound * sum(len(c.prompt_token_ids or ()) for c in calls))


def test_what_is_shown_is_what_is_accounted_for() -> None:
    """Nodes, models and the sum of all count the tokens of calls that broke off, as the account of the work does."""
    (flow,) = random_trace(3, workflows=1).workflows
    calls = [replace(c, error="cut", output_tokens=None) if i % 2 else c for i, c in enumerate(flow.calls)]
    trace = Trace(random_trace(3).header, (replace(flow, calls=tuple(calls)),))
    found, recorded = overview(trace), account(trace).recorded
    for name in ("calls", "prompt_tokens", "output_tokens"):
        sums = [sum(row[name] or 0 for row in found[rows]) for rows in ("nodes", "models")]
        assert [found[name], *sums] == [getattr(recorded, name)] * 3


def test_a_refused_call_hides_no_tokens() -> None:
    """Calls that got no answer leave the tokens of the others counted; of such calls alone nothing is known."""
    answered = made_call("w0000", "a", 0, 1)
    silent = [
        replace(made_call("w0000", f"b{n}", n, n + 1), status=status, error="slow down", prompt_tokens=None,
                cached_tokens=None, output_tokens=None, token_ids=None)
        for n, status in enumerate((429, None))
    ]  # fmt: skip
    found = figures([answered, *silent])
    assert (found["calls"], found["failed_calls"]) == (3, 2)
    names = ("prompt_tokens", "cached_tokens", "output_tokens")
    assert [found[n] for n in names] == [figures([answered])[n] for n in names] != [None] * 3
    assert [figures(silent)[n] for n in names] == [None] * 3


def test_texts_where_there_are_no_ids() -> None:
    """Without token ids the texts of prompts are compared, tools and roles included."""
    calls = [replace(made_call("w0000", f"c{i}", i, i + 1, prompt="x" * 100), prompt_token_ids=None) for i in range(2)]
    shared, unit = sharing(calls)
    assert unit == "characters"
    assert shared is not None and 0.4 < shared < 0.5


@pytest.mark.parametrize("without_ids", [False, True])
def test_inspect_says_what_is_shared(tmp_path: Path, without_ids: bool) -> None:
    """One line says how much of the prompts a prefix cache can save, and of what; one workflow is no plural."""
    made = made_call("w0000", "a", 0, 1)
    trace = made_trace([made_workflow([replace(made, prompt_token_ids=None) if without_ids else made], {})])
    save(trace, tmp_path / "t.jsonl")
    result = CliRunner().invoke(inspect, [str(tmp_path / "t.jsonl")])
    unit = "characters" if without_ids else "tokens"
    assert f"sharing: at most 0% of all prompt {unit} can come from a prefix cache" in result.output
    assert "1 workflow, 1 call, 0 tool calls" in " ".join(result.output.split())


def test_every_trace_can_be_inspected(tmp_path: Path) -> None:
    """Random workflows of calls and tools are shown."""
    save(random_trace(2), tmp_path / "t.jsonl")
    assert CliRunner().invoke(inspect, [str(tmp_path / "t.jsonl"), "--json"]).exit_code == 0

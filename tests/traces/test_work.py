"""What was recorded is replayed or named: the law over calls and tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.traces import Trace
from rejoule.traces.model import Call, Unrecorded
from rejoule.traces.run import CallResult
from rejoule.traces.testing import random_trace
from rejoule.traces.work import account, altered, left_out, output_tokens, sentences

WHOLE = next(random_trace(1, workflows=1).calls)
_OK = CallResult("c", "w", "n", 0.0, 0.0, 1.0)
CUT = replace(WHOLE, error="the client closed the stream before its end", output_tokens=None, token_ids=None)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (WHOLE, None),
        (replace(WHOLE, request={**WHOLE.request, "use_beam_search": True, "n": 4}), "beam search"),
        (replace(WHOLE, request={**WHOLE.request, "best_of": 4}), "best_of"),
        (replace(WHOLE, request={**WHOLE.request, "best_of": 1}), None),
        (replace(WHOLE, request={**WHOLE.request, "n": 4}), "several answers"),
        (replace(WHOLE, status=None, error="timed out"), "no answer came"),
        (replace(WHOLE, status=503, error="busy"), "refused by the server"),
        (replace(CUT, pieces=0, text=None), "ended before its first token"),
        (replace(CUT, pieces=3), None),
        (replace(CUT, token_ids=(5, 6)), None),
    ],
)
def test_a_call_is_left_out_for_a_reason_with_a_name(call: Call, reason: str | None) -> None:
    """Work that was done and can be done again is; for all else there is a reason."""
    found = left_out(call)
    assert found is None if reason is None else reason in (found or "")


def test_what_is_not_as_recorded_is_never_exact() -> None:
    """Guessed lengths, answers let go, and answers of nothing are said to be so."""
    assert altered(WHOLE) == ()
    assert "let go" in altered(replace(CUT, token_ids=(5, 6)))[0]
    assert "guessed" in altered(replace(WHOLE, output_tokens=None, token_ids=None, pieces=7))[0]
    assert "no" in altered(replace(WHOLE, output_tokens=0, token_ids=None))[0]


def test_a_guess_is_by_pieces_before_words_and_counts_what_tools_are_told() -> None:
    """The pieces of a stream are about its tokens; without them words are, those of a tool's arguments too."""
    guess = replace(WHOLE, output_tokens=None, token_ids=None, text="one two three")
    assert output_tokens(replace(guess, pieces=41)) == 41
    assert output_tokens(guess) == 4
    tool = {"function": {"name": "find", "arguments": '{"q": "rain and wind"}'}}
    assert output_tokens(replace(guess, text=None, tool_calls=(tool,))) == 5


@given(st.data())
def test_recorded_is_replayed_and_named_together(data: st.DataObject) -> None:
    """For any mix of calls, and any outcome of a replay, calls and tokens add up."""
    trace = random_trace(data.draw(st.integers(0, 50)), workflows=2)
    odd: dict[str, st.SearchStrategy[Any]] = {
        "status": st.sampled_from([200, 200, 200, None, 503]),
        "error": st.sampled_from([None, None, "cut"]),
        "output_tokens": st.sampled_from([None, 0, 3]),
        "pieces": st.sampled_from([None, 0, 2]),
        "token_ids": st.sampled_from([None, (), (1, 2, 3)]),
    }

    def changed(call: Call) -> Call:
        fields: dict[str, Any] = {name: data.draw(values) for name, values in odd.items()}
        return replace(call, **fields)

    flows = tuple(replace(w, calls=tuple(map(changed, w.calls))) for w in trace.workflows)
    found = Trace(trace.header, flows)
    outcomes: dict[str, Any] = {
        call.id: replace(_OK, error=data.draw(st.sampled_from([None, "HTTP 400"])), refused=data.draw(st.booleans()))
        for call in found.calls
        if left_out(call) is None and data.draw(st.booleans())
    }
    for account_ in (account(found), account(found, outcomes)):
        parts = [account_.replayed, *(named.amount for named in account_.left_out)]
        for field in ("calls", "prompt_tokens", "output_tokens", "uncounted"):
            assert getattr(account_.recorded, field) == sum(getattr(part, field) for part in parts)


def test_sentences_have_counts_and_shares() -> None:
    """A reader is told how many calls and how much of the output each reason is about."""
    calls = (WHOLE, replace(WHOLE, id="b", status=500, error="x", output_tokens=None, token_ids=None))
    flow = replace(random_trace(1, workflows=1).workflows[0], calls=calls, edges=())
    trace = Trace(random_trace(1).header, (flow,), (Unrecorded("POST /v1/embeddings", 3),))
    lost, unseen = sentences(account(trace))
    assert lost.startswith("1 call of 2 (50.0%) left out: refused")
    assert unseen.startswith("3 requests") and "embeddings" in unseen


def test_tokens_of_a_prompt_that_are_counted_again_are_told() -> None:
    """Each answer to a request is a call with the prompt's tokens, and how many are counted again is said."""
    calls = (WHOLE, replace(WHOLE, id=f"{WHOLE.id}.1", sibling_of=WHOLE.id))
    flow = replace(random_trace(1, workflows=1).workflows[0], calls=calls, edges=())
    found = account(Trace(random_trace(1).header, (flow,)))
    assert found.further.calls == 1 and found.further.prompt_tokens == WHOLE.prompt_tokens
    (said,) = sentences(found)
    assert said.startswith("1 call of 2") and f"({WHOLE.prompt_tokens} here)" in said

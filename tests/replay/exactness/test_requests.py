"""What is sent for a recorded call."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.exactness.requests import exact_body, scaled_ids, scaled_length, scaled_text
from rejoule.traces.testing import made_call

IDS = st.lists(st.integers(0, 100), min_size=1, max_size=200)
SCALES = st.sampled_from([0.1, 0.5, 0.75, 1.0, 1.5, 2.0, 3.7])


@given(ids=IDS, scale=SCALES)
def test_scaled_length_of_ids(ids: list[int], scale: float) -> None:
    """A scaled prompt is as long as the scale says, and at least one token."""
    assert len(scaled_ids(ids, scale)) == max(1, int(len(ids) * scale + 1e-9))


@given(shared=IDS, one=IDS, other=IDS, scale=SCALES)
def test_shared_prefixes_stay_shared(shared: list[int], one: list[int], other: list[int], scale: float) -> None:
    """Prompts that began alike still begin alike, over a prefix that is scaled as much."""
    common = scaled_ids(shared, scale)
    common = common if int(len(shared) * scale + 1e-9) else []
    assert scaled_ids(shared + one, scale)[: len(common)] == scaled_ids(shared + other, scale)[: len(common)] == common


def test_scaled_text() -> None:
    """Text is scaled by whole words."""
    assert scaled_text("one two three four", 0.5) == " two four"
    assert scaled_text("one two", 2) == "oneone two two"
    assert scaled_text("as it  was\n", 1) == "as it  was\n"


def test_exact_body() -> None:
    """An exact body asks for the recorded number of tokens, no more and no fewer, and lets nothing end it sooner."""
    call = made_call("w0000", "a", 0, 1, output_tokens=12)
    request = {**call.request, "stop": ["\n"], "response_format": {"type": "json_object"}, "tools": [{}], "seed": 3}
    call = replace(call, request=request | {"tool_choice": "required", "temperature": 0.2})
    body = exact_body(call, output_tokens=12, input_scale=1, exact_lengths=True)
    assert (body["max_tokens"], body["min_tokens"], body["ignore_eos"], body["tool_choice"]) == (12, 12, True, "none")
    assert body.keys().isdisjoint({"stop", "response_format"})
    assert body["tools"] == [{}] and body["temperature"] == 0.2 and body["messages"] == call.request["messages"]


def test_foreign_server_gets_no_options_of_vllm() -> None:
    """A server of another kind is sent only what OpenAI's interface knows."""
    body = exact_body(made_call("w0000", "a", 0, 1), output_tokens=12, input_scale=1, exact_lengths=False)
    assert body.keys().isdisjoint({"min_tokens", "ignore_eos"}) and body["max_tokens"] == 12


def test_output_length() -> None:
    """An output is never scaled away."""
    assert [scaled_length(10, s) for s in (0.01, 0.5, 1, 2)] == [1, 5, 10, 20]

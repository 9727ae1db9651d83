"""Several answers to one request, and several prompts in one: a call for each, recorded and replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from openai import OpenAI

import rejoule
from rejoule.graphs.capture.answer import Answer, parse
from rejoule.graphs.capture.several import calls
from rejoule.traces.model import Call
from rejoule.traces.work import account


class State(TypedDict, total=False):
    drafts: list[str]
    best: str


def graph_of(ask: Any) -> StateGraph[State]:
    def vote(state: State) -> State:
        said = OpenAI().chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Which is best? " + " / ".join(state["drafts"])}]
        )
        return {"best": said.choices[0].message.content or ""}

    graph: StateGraph[State] = StateGraph(State)
    graph.add_node("drafts", lambda state: {"drafts": ask(OpenAI())})
    graph.add_node("vote", vote)
    graph.add_edge(START, "drafts")
    graph.add_edge("drafts", "vote")
    return graph


def whole(client: OpenAI) -> list[str]:
    said = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "A slogan. " * 40}], n=4, max_tokens=50
    )
    return [choice.message.content or "" for choice in said.choices]


def streamed(client: OpenAI) -> list[str]:
    texts = [""] * 3
    for chunk in client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "A slogan. " * 40}], n=3, max_tokens=50, stream=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    return texts


def prompts(client: OpenAI) -> list[str]:
    said = client.completions.create(model="m", prompt=["One thing. " * 30, "Another. " * 50], n=2, max_tokens=30)
    return [choice.text for choice in said.choices]


def token_prompts(client: OpenAI) -> list[str]:
    said = client.completions.create(model="m", prompt=[list(range(300, 420)), list(range(300, 500))], max_tokens=30)
    return [choice.text for choice in said.choices]


@pytest.mark.filterwarnings("ignore:.*for further answers to a prompt:rejoule.RejouleWarning")
@pytest.mark.parametrize(
    ("ask", "answers", "lengths"),
    [(whole, 4, 1), (streamed, 3, 1), (prompts, 4, 2), (token_prompts, 2, 2)],
)
def test_each_answer_is_a_call(tmp_path: Path, ask: Any, answers: int, lengths: int) -> None:
    """All that was computed is recorded and replayed, and what comes after waits for all of it."""
    trace = rejoule.record(graph_of(ask), [{}])
    assert account(trace).further.calls == answers - lengths
    (flow,) = trace.workflows
    *drafts, vote = flow.calls
    assert len(drafts) == answers and vote.node == "vote"
    assert {call.sibling_of for call in drafts} == {None, drafts[0].id}
    assert len({call.prompt_tokens for call in drafts}) == lengths
    assert len({call.text for call in drafts}) == answers
    assert all(call.token_ids and call.output_tokens == len(call.token_ids) for call in drafts)
    assert not any("n" in call.request for call in drafts)
    assert {edge.source for edge in flow.edges if edge.target == vote.id} == {call.id for call in drafts}
    (run,) = rejoule.replay_traces(trace, tmp_path / "runs", progress=False).runs
    assert run.certificate.exact_calls == answers + 1
    assert sum(r.output_tokens or 0 for r in run.calls) == sum(c.output_tokens or 0 for c in flow.calls)
    assert run.steps is not None
    computed = dict.fromkeys((c.id for c in drafts), 0)
    for step in run.steps:
        for name, tokens, _ in step.prefill:
            if name in computed:
                computed[name] += tokens
    # The prompt is computed once, but for its last, unfinished block.
    if lengths == 1:
        assert sum(computed.values()) <= (drafts[0].prompt_tokens or 0) + 16 * answers


def test_answers_without_ids_have_guesses_that_add_up() -> None:
    """A server that only counts the tokens of all answers: each has a guess, together what it counted."""
    usage = b'"usage":{"prompt_tokens":9,"completion_tokens":20}'
    body = b'{"choices":[{"index":0,"text":"a b"},{"index":1,"text":"a b c d"}],' + usage + b"}"
    first = parse([(5, body)], status=200, streamed=False)
    found = split(first, {"prompt": "x", "n": 2})
    assert [call.output_tokens for call in found] == [None, None]
    assert sum(call.pieces or 0 for call in found) == 20
    assert [call.prompt_tokens for call in found] == [9, 9]


def test_what_cannot_be_told_apart_stays_one_call() -> None:
    """Answers that a beam search kept, or the best of more, are not what was computed."""
    body = b'{"choices":[{"index":0,"text":"a"},{"index":1,"text":"b"}]}'
    first = parse([(5, body)], status=200, streamed=False)
    assert len(split(first, {"prompt": "x", "n": 2, "use_beam_search": True})) == 1
    assert len(split(first, {"prompt": "x", "n": 2, "best_of": 5})) == 1
    assert len(split(first, {"prompt": "x", "n": 2, "best_of": 2})) == 2


def test_answers_that_nobody_asked_for_are_an_error() -> None:
    """A server that sends more than was asked for is not believed, however many it sends."""
    body = b'{"choices":[' + b",".join([b'{"index":0,"text":"a"}'] * 5000) + b"]}"
    (one,) = split(parse([(5, body)], status=200, streamed=False), {"prompt": "x"})
    assert one.error == "the server sent 5,000 answers, and 1 were asked for" and not one.succeeded


def split(first: Answer, request: dict[str, Any]) -> list[Call]:
    call = Call(
        "w0/c000", "w0", "w0/n0", "a", "completions", request, 0, 9, status=200,
        output_tokens=first.output_tokens, prompt_tokens=first.prompt_tokens,
    )  # fmt: skip
    return list(calls(call, (first, *first.others)))

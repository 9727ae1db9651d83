"""The search copilot."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from rejoule.graphs.corpus import Corpus
from rejoule.graphs.workloads.interactive import COPILOT, InteractiveSettings, shared_prompt, think_time_s

if TYPE_CHECKING:
    from tests.graphs.workloads.conftest import Bench, Script

SEARCH = {"action": "search", "query": "glaciers"}
ANSWER = {"action": "answer", "query": "none"}


async def test_the_model_searches_then_answers_with_citations(bench: Bench) -> None:
    """The chosen query reaches the index, its passages reach the model, and a cited passage counts as a source."""
    script: Script = {"decision": [SEARCH, ANSWER], "text": ["Cold, they say [glaciers#1] [bees#99]."]}
    results, ran = await bench.run("interactive", script, turns=1)
    assert ran == ["person", "decide", "search", "decide", "answer"]
    assert "[glaciers#1]" in bench.model.prompts("decision")[1]
    assert results[0]["text"].endswith("(sources: glaciers#1)")


async def test_the_model_may_answer_at_once(bench: Bench) -> None:
    """No search runs that the model did not choose."""
    _, ran = await bench.run("interactive", {"decision": [ANSWER]}, turns=2, think_time_s=0)
    assert ran == ["person", "decide", "answer"] * 2


@pytest.mark.parametrize("decision", [SEARCH, '{"action": "sea', '{"action": "dance", "query": "x"}', "[" * 5000, ""])
async def test_searches_end(bench: Bench, decision: object) -> None:
    """A model that always searches, or says nothing that can be read, is made to answer after the bound."""
    _, ran = await bench.run("interactive", {"decision": [decision]}, turns=1, searches=2)
    assert ran == ["person", "decide", "search", "decide", "search", "answer"]


async def test_a_decision_that_cannot_be_read_searches_with_the_question(bench: Bench) -> None:
    """The person's own words are the query."""
    await bench.run("interactive", {"decision": ["no JSON"]}, turns=1, searches=1)
    asked = bench.model.asked[0][1]["messages"][-1]["content"]
    assert bench.model.prompts("text")[0].startswith(f"Passages for “{asked}”")


async def test_the_conversation_only_grows(bench: Bench) -> None:
    """Every prompt begins with the whole prompt before it, and the two sides alternate."""
    script: Script = {"decision": [SEARCH, ANSWER, ANSWER, SEARCH, SEARCH]}
    await bench.run("interactive", script, turns=3, think_time_s=0)
    prompts = [body["messages"] for _, body in bench.model.asked]
    for before, after in pairwise(prompts):
        assert after[: len(before)] == before
    for messages in prompts:
        assert [message["role"] for message in messages[1:]] == ["user", "assistant"] * (len(messages) // 2 - 1) + [
            "user"
        ]


def test_the_shared_prompt_has_the_wanted_length(corpus: Corpus) -> None:
    """It keeps its orders whole and repeats the corpus if it must."""
    assert shared_prompt(corpus, 1) == COPILOT
    assert len(shared_prompt(corpus, 5000)) == 20_000


def test_thinking_times_are_seeded_and_average_as_set() -> None:
    """Equal seeds think equally long; the mean is the setting's; zero means no waiting."""
    settings = InteractiveSettings(think_time_s=2.0)
    times = [think_time_s(settings, seed, 1) for seed in range(2000)]
    assert times[:5] == [think_time_s(settings, seed, 1) for seed in range(5)]
    assert sum(times) / len(times) == pytest.approx(2.0, rel=0.1)
    assert think_time_s(InteractiveSettings(think_time_s=0.0), 1, 1) == 0

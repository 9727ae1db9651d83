"""More calls than the KV cache holds, on a real vLLM: preempted calls still do the recorded work."""

from __future__ import annotations

import pytest
from tests.vllm.test_policy import on_vllm, replayed

from rejoule.traces.model import Trace
from rejoule.traces.preempted import preempted, tokens_again
from rejoule.traces.run import Run
from rejoule.traces.testing import made_call, made_trace, made_workflow

pytestmark = pytest.mark.vllm

__all__ = ["on_vllm"]
CALLS = 12
BLOCKS = 40
"""Of 32 tokens: room for four of the calls at their ends."""


def crowd() -> Trace:
    """Calls that all arrive at once, with prompts of their own and answers that outgrow the cache."""
    return made_trace(
        [
            made_workflow(
                [made_call(f"w{i}", f"n{i % 3}", 0, 100, prompt=f"{i}", prompt_tokens=100, output_tokens=200 + 10 * i)],
                {},
                name=f"w{i}",
            )
            for i in range(CALLS)
        ]
    )


@pytest.fixture(scope="module")
def crowded(on_vllm: tuple[list[object], dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    words, env = on_vllm
    words = [f"num_gpu_blocks={BLOCKS}" if str(word).startswith("num_gpu_blocks=") else word for word in words]
    place = tmp_path_factory.mktemp("crowd") / "place"
    more = ["--option", "max_model_len=1024", "--option", "warm_up=false", "--option", "idle_s=0"]
    (run,) = replayed(crowd(), place, *words, *more, "--max-num-seqs", CALLS, "--arrivals", "burst", env=env).values()
    return run


def test_preempted_calls_answer_with_the_recorded_tokens(crowded: Run) -> None:
    """Every call is exact at tier tokens, though many were thrown out and computed again."""
    found = preempted(crowded)
    assert found is not None and found.preemptions >= 3 and found.again_tokens
    assert crowded.certificate.tier == "tokens" and crowded.certificate.violations == ()
    assert crowded.certificate.exact_calls == len(crowded.calls) == CALLS


def test_the_run_says_which_calls_were_preempted(crowded: Run) -> None:
    """Calls and steps tell of the same preemptions."""
    steps = [name for step in crowded.steps or () for name in step.preempted]
    assert {c.id: c.preemptions for c in crowded.calls} == {c.id: steps.count(c.id) for c in crowded.calls}


def test_every_token_is_computed_once_besides_those_computed_again(crowded: Run) -> None:
    """Found in the cache, computed for the first time, and decoded: prompt and answer but for its last token."""
    new = {call.id: call.cached_tokens or 0.0 for call in crowded.calls}
    steps = crowded.steps or ()
    for step, again in zip(steps, tokens_again(steps, {c.id: c.prompt_tokens for c in crowded.calls}), strict=True):
        for (name, tokens, _), twice in zip(step.prefill, again, strict=True):
            new[name] += tokens - twice
        for name, tokens in step.decode:
            new[name] += tokens
    assert new == {c.id: (c.prompt_tokens or 0) + (c.output_tokens or 0) - 1 for c in crowded.calls}

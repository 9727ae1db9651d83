"""The four workloads, small enough for a real vLLM on the CPU."""

from __future__ import annotations

from collections.abc import Mapping


def sizes(*, shared_prompt_tokens: int, test_time_s: float) -> dict[str, Mapping[str, float]]:
    """Settings by graph, as ``rejoule record --set`` takes them."""
    sequential = {"chunks": 3, "chunk_tokens": 50, "summary_tokens": 16, "fan_in": 2}
    interactive = {
        "turns": 2,
        "searches": 2,
        "passage_tokens": 60,
        "shared_prompt_tokens": shared_prompt_tokens,
        "answer_tokens": 16,
        "think_time_s": 0.1,
    }
    agentic = {
        "engineers": 2,
        "rounds": 2,
        "requirements_tokens": 16,
        "purpose_tokens": 10,
        "code_tokens": 30,
        "comment_tokens": 10,
        "test_time_s": test_time_s,
    }
    composite = {**sequential, **interactive, **agentic, "reply_tokens": 16}
    return {"sequential": sequential, "interactive": interactive, "agentic": agentic, "composite": composite}

"""What a call must have found in the prefix cache, where the cache has room and where it has not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rejoule.replay.exactness.cache_verdict import cache_verdict
from rejoule.replay.exactness.expected_cache import Served
from rejoule.traces.evicted import eviction_notes
from rejoule.traces.run import CallResult, Certificate, Configuration, Energy, PowerCap, Run

SIZE = 4
SERVED = (
    Served("first", 0, 1, range(8), range(100, 104), 0.5),
    Served("other", 2, 3, range(50, 58), range(200, 204), 2.5),
    Served("again", 4, 5, [*range(8), 9], [1], 4.5),
)


def answered(found: int) -> list[CallResult]:
    """The last one is asked what the first one was, and found so many tokens of it."""
    cached = (0, 0, found)
    return [
        CallResult(s.id, "w", "n", s.sent_s, s.sent_s, s.end_s, first_token_s=s.first_token_s, cached_tokens=tokens)
        for s, tokens in zip(SERVED, cached, strict=True)
    ]


@pytest.mark.parametrize(("blocks", "evicted"), [(None, False), (10, False), (9, True), (4, True)])
def test_to_find_less_is_a_violation_only_while_there_was_room(blocks: int | None, evicted: bool) -> None:
    """The three calls fill three blocks each, and one is vLLM's own."""
    found = cache_verdict(answered(0), SERVED, SIZE, blocks)
    assert found.expected_tokens == (8, 8)
    assert (found.evicted_calls, len(found.violations)) == ((1, 0) if evicted else (0, 1))


def test_to_find_more_than_there_was_is_always_a_violation() -> None:
    found = cache_verdict(answered(12), SERVED, SIZE, 4)
    assert (found.evicted_calls, len(found.violations)) == (0, 1)


def test_what_was_evicted_is_said() -> None:
    """With how many calls found less, of how many, and how many blocks there were."""
    certificate = Certificate("tokens", "", 3, evicted_calls=1)
    calls = tuple(answered(0))
    run = Run("r", "t", "", Configuration(), 0, 5.0, calls, (), (), Energy(), PowerCap(), certificate)
    (note,) = eviction_notes([replace(run, engine={"num_gpu_blocks": 9})])
    assert "1 of 3 calls found less" in note and "there are 9" in note
    assert list(eviction_notes([replace(run, certificate=replace(certificate, evicted_calls=0))])) == []

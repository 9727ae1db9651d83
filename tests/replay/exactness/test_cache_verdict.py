"""What a call must have found in the prefix cache, where the cache has room and where it has not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.engine import Measured
from rejoule.replay.engines.open import open_engine
from rejoule.replay.engines.sim import prompt_ids
from rejoule.replay.exactness.cache_verdict import Caches, cache_verdict
from rejoule.replay.exactness.expected_cache import Served
from rejoule.replay.replay import _cache_verdict, replay
from rejoule.traces.evicted import eviction_notes
from rejoule.traces.run import CallResult, Certificate, Configuration, Energy, PowerCap, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.testing import random_trace

SIZE = 4
SIM_SIZE = 16
SERVED = (
    Served("first", 0, 1, range(8), range(100, 104), 0.5),
    Served("other", 2, 3, range(50, 58), range(200, 204), 2.5),
    Served("again", 4, 5, [*range(8), 9], [1], 4.5),
)


def answered(found: int, served: Sequence[Served] = SERVED) -> list[CallResult]:
    """The last one is asked what the first one was, and found so many tokens of it."""
    cached = [0] * (len(served) - 1) + [found]
    return [
        CallResult(s.id, "w", "n", s.sent_s, s.sent_s, s.end_s, s.first_token_s, cached_tokens=tokens, preemptions=0)
        for s, tokens in zip(served, cached, strict=True)
    ]


@pytest.mark.parametrize(("blocks", "evicted"), [(None, False), (10, False), (7, False), (6, True), (4, True)])
def test_to_find_less_is_a_violation_only_while_there_was_room(blocks: int | None, evicted: bool) -> None:
    """The two calls before it fill three blocks each, and one is vLLM's own."""
    found = cache_verdict(answered(0), SERVED, Caches(SIZE, (blocks,)))
    assert found.expected_tokens == (8, 8)
    assert (found.evicted_calls, len(found.violations)) == ((1, 0) if evicted else (0, 1))


@pytest.mark.parametrize("between", [False, True])
def test_what_was_used_lately_was_not_evicted(between: bool) -> None:
    """However full the cache was before: what was used longest ago gives way first."""
    many_s = 2.5 if between else 0.0
    many = [Served(f"{i}", many_s, many_s + 0.4, range(100 * i, 100 * i + 8), [1], many_s) for i in range(1, 50)]
    served = [Served("first", 1, 2, range(8), [1], 1.5), *many, Served("again", 3, 4, range(9), [1], 3.5)]
    found = cache_verdict(answered(0, served), served, Caches(SIZE, (40,)))
    assert (found.evicted_calls, len(found.violations)) == ((1, 0) if between else (0, 1))


@given(seed=st.integers(0, 10_000), seqs=st.sampled_from([2, 16]), room=st.sampled_from([2, 8, 30]))
@settings(max_examples=30, deadline=None)
async def test_what_a_full_cache_evicts_is_never_a_violation(seed: int, seqs: int, room: int) -> None:
    """On the embedded engine, which evicts and preempts as vLLM does, with little more room than for one call."""
    trace = random_trace(seed, workflows=8)
    calls = {call.id: call for call in trace.calls}
    blocks = max(len(prompt_ids(call)) + len(call.token_ids or ()) for call in trace.calls) // SIM_SIZE + room
    knobs = Configuration(max_num_seqs=seqs, options={"num_gpu_blocks": blocks})
    run = await replay(trace, PlannedRun("r", "t", knobs, 0), "", open_engine)
    served = [
        Served(c.id, c.sent_s, c.end_s, prompt_ids(calls[c.id]), calls[c.id].token_ids or (), c.first_token_s)
        for c in run.calls
    ]
    assert cache_verdict(run.calls, served, Caches(SIM_SIZE, (blocks,))).violations == ()


def test_to_find_more_than_there_was_is_always_a_violation() -> None:
    found = cache_verdict(answered(12), SERVED, Caches(SIZE, (4,)))
    assert (found.evicted_calls, len(found.violations)) == (0, 1)


def test_an_answer_that_was_never_made_fills_no_cache() -> None:
    """Of a call that failed before its first token, or was refused: it excuses nobody who finds less than was there."""
    trace = random_trace(3, workflows=2)
    one, *_ = trace.calls
    asked = {"first": (range(40), [5]), "long": ([1, 2], range(100, 900)), "again": ([*range(40), 7], [5])}
    calls = [replace(one, id=n, prompt_token_ids=tuple(p), token_ids=tuple(o)) for n, (p, o) in asked.items()]
    made = replace(trace, workflows=(replace(trace.workflows[0], calls=tuple(calls)),))
    first, long, again = (
        CallResult(c.id, "w", "n", s, s, s + 1, s + 0.5, 40, 0, 1, preemptions=0)
        for c, s in zip(calls, (0.0, 2.0, 4.0), strict=True)
    )
    long = replace(long, cached_tokens=None, output_tokens=None)

    def excused(failed: CallResult) -> bool:
        measured = Measured(Energy(), caches=Caches(SIM_SIZE, (50,)))
        found = _cache_verdict(made, [first, failed, again], measured, Configuration())
        assert (found.evicted_calls, len(found.violations)) in ((1, 0), (0, 1))
        return found.evicted_calls == 1

    assert excused(replace(long, error="it broke off"))
    assert not excused(replace(long, error="it broke off", output_tokens=30))
    assert not excused(replace(long, error="no answer", first_token_s=None))
    assert not excused(replace(long, error="HTTP 400", first_token_s=None, refused=True))


def test_a_call_that_failed_is_not_sure_to_have_left_anything() -> None:
    served = [replace(SERVED[0], done=False, output=()), *SERVED[1:]]
    assert cache_verdict(answered(0), served, Caches(SIZE, (100,))).violations == ()


@pytest.mark.parametrize(("blocks", "evicted"), [(4, True), (9, False)])
def test_each_of_several_engines_is_held_against_its_own_blocks(blocks: int, evicted: bool) -> None:
    """What the others computed takes no room in its cache, and what they hold is not found in it."""
    elsewhere = [Served(f"{i}", 2, 3, range(100 * i, 100 * i + 40), [1], 2.5) for i in range(1, 20)]
    served = [SERVED[0], *elsewhere, *SERVED[1:]]
    of = {one.id: 1 for one in elsewhere} | {one.id: 0 for one in SERVED}
    found = cache_verdict(answered(0, served), served, Caches(SIZE, (blocks, 1000), of))
    assert (found.evicted_calls, len(found.violations)) == ((1, 0) if evicted else (0, 1))
    apart = cache_verdict(answered(0, served), served, Caches(SIZE, (blocks, 1000), of | {"again": 1}))
    assert (apart.evicted_calls, apart.violations, apart.expected_tokens) == (0, (), (0, 0))


def test_which_engine_answered_is_not_guessed() -> None:
    """Who finds little is neither excused nor accused; who finds more than any had is."""
    unknown = Caches(SIZE, (None, None))
    found = cache_verdict(answered(0), SERVED, unknown)
    assert (found.evicted_calls, found.violations, found.expected_tokens) == (None, (), (0, 8))
    assert len(cache_verdict(answered(12), SERVED, unknown).violations) == 1
    untapped = Caches(SIZE, (40, 40), {one.id: 0 for one in SERVED[:-1]})
    assert cache_verdict(answered(0), SERVED, untapped) == found
    certificate = Certificate("tokens", "", 3, expected_cached_tokens=(0, 8))
    calls = tuple(answered(0))
    run = Run("r", "t", "", Configuration(), 0, 5.0, calls, (), (), Energy(), PowerCap(), certificate)
    (note,) = eviction_notes([replace(run, engine={"data_parallel_size": 2})])
    assert "2 engines" in note and "step_tap" in note
    assert list(eviction_notes([run])) == []


def test_what_was_evicted_is_said() -> None:
    """With how many calls found less, of how many, and how many blocks there were."""
    certificate = Certificate("tokens", "", 3, evicted_calls=1)
    calls = tuple(answered(0))
    run = Run("r", "t", "", Configuration(), 0, 5.0, calls, (), (), Energy(), PowerCap(), certificate)
    (note,) = eviction_notes([replace(run, engine={"num_gpu_blocks": 9})])
    assert "1 of 3 calls found less" in note and "there are 9" in note
    assert list(eviction_notes([replace(run, certificate=replace(certificate, evicted_calls=0))])) == []

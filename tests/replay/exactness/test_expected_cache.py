"""What a prefix cache must have held, and can have held at most."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.engines.open import open_engine
from rejoule.replay.engines.sim import prompt_ids
from rejoule.replay.exactness.expected_cache import Served, cached_bounds
from rejoule.replay.replay import replay
from rejoule.traces.run import Configuration
from rejoule.traces.runs import PlannedRun
from rejoule.traces.testing import random_trace


def test_a_conversation() -> None:
    """The second turn finds the first, its answer included, in whole blocks; a call at the same time may or may not."""
    one = Served("one", 0, 1, range(10), range(100, 107), first_token_s=0.4)
    two = Served("two", 2, 3, [*range(10), *range(100, 107), 5, 6, 7], [1])
    meanwhile = Served("meanwhile", 0.5, 3, range(10), [1])
    assert cached_bounds([one, two, meanwhile], 4) == {"one": (0, 0), "two": (16, 16), "meanwhile": (0, 8)}


def test_the_last_token_is_always_computed() -> None:
    """An equal prompt of whole blocks still computes its last block."""
    served = [Served("one", 0, 1, range(8), [1]), Served("two", 2, 3, range(8), [1])]
    assert cached_bounds(served, 4)["two"] == (4, 4)


@given(seed=st.integers(0, 10_000), seqs=st.sampled_from([1, 2, 16]))
@settings(max_examples=40, deadline=None)
async def test_the_simulated_engine_is_within(seed: int, seqs: int) -> None:
    """The embedded engine's cache hits lie within the bounds, whatever the batch size."""
    trace = random_trace(seed, workflows=6)
    run = await replay(trace, PlannedRun("r", "t", Configuration(max_num_seqs=seqs), 0), "", open_engine)
    calls = {call.id: call for call in trace.calls}
    served = [Served(c.id, c.sent_s, c.end_s, prompt_ids(calls[c.id]), calls[c.id].token_ids or ()) for c in run.calls]
    bounds = cached_bounds(served, 16)
    for call in run.calls:
        low, high = bounds[call.id]
        assert call.cached_tokens is not None and low <= call.cached_tokens <= high

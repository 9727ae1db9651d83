"""The blocks of requests that decode together."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.lockstep import Lockstep

BLOCK = 4


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 40), st.integers(1, 60))
def test_blocks_last_for_as_many_steps_as_visiting_each_request_shows(
    lengths: list[int], blocks: int, most: int
) -> None:
    """A request takes a block whenever its length is a multiple of the block size; those of step 1 do not count."""
    decoding = Lockstep(BLOCK)
    for i, length in enumerate(lengths):
        job = Job(SimRequest(f"r{i}", [1] * length, 100), 0.0, i)
        job.computed, job.produced = length, 1
        decoding.join(job)
    taken, steps = 0, 1
    while steps < most:
        taken += sum((length + steps) % BLOCK == 0 for length in lengths)
        if taken > blocks:
            break
        steps += 1
    assert decoding.steps_within(blocks, most) == steps

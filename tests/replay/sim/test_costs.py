"""What planned steps come to in the words of the models."""

from __future__ import annotations

from rejoule.replay.sim.costs import work_of
from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.latency import Work
from rejoule.replay.sim.scheduler import Chunk, Plan


def test_the_work_of_a_plan_is_the_sum_of_its_chunks_and_decodes() -> None:
    """A chunk of n tokens after c attends to n (c + n/2) pairs, and the one that ends its prompt completes it."""
    one, other = (Job(SimRequest(name, [0] * 30, 5), 0.0, i) for i, name in enumerate("ab"))
    plan = Plan([Chunk(one, 20, 10, 0), Chunk(other, 8, 4, 4)], 3, 170, [], [])
    assert work_of(plan, first=True) == Work(
        prefills=2,
        prefill_tokens=28,
        prefill_pairs=20 * 20 + 8 * 8,
        prefill_context=14,
        decodes=3,
        decode_context=170,
        prompts_completed=1,
        first=True,
    )

"""Chained hashes of blocks of tokens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.sim.hashing import block_hashes
from rejoule.replay.sim.jobs import Job, SimRequest

BLOCK = 4


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(0, 3), max_size=40))
def test_blocks_hash_equal_exactly_when_everything_before_is_equal(a: list[int], b: list[int]) -> None:
    """Chained hashes agree on the common full blocks and on nothing after them; a salt changes all of them."""
    hashes_a, hashes_b = block_hashes(a, BLOCK), block_hashes(b, BLOCK)
    for i, (x, y) in enumerate(zip(hashes_a, hashes_b, strict=False)):
        assert (x == y) == (a[: (i + 1) * BLOCK] == b[: (i + 1) * BLOCK])
    assert set(hashes_a).isdisjoint(block_hashes(a, BLOCK, "salt"))
    assert len(set(hashes_a)) == len(a) // BLOCK


def test_answers_of_which_nobody_knows_the_tokens_are_equal_to_none() -> None:
    """Two requests that ask the same share the blocks of their prompt, and not those of their answers."""
    a, b = (Job(SimRequest(f"r{i}", [7] * 8, 9), 0.0, i).hashes(BLOCK) for i in range(2))
    assert len(a) == len(b) == 4
    assert [x == y for x, y in zip(a, b, strict=True)] == [True, True, False, False]
    assert set(a[2:]).isdisjoint(b[2:])

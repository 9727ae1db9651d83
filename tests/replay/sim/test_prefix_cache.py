"""What can be hit in the prefix cache, whoever holds it."""

from __future__ import annotations

from rejoule.replay.sim.prefix_cache import Lease, PrefixCache, Run


def published(cache: PrefixCache, hashes: list[int]) -> Lease:
    lease = Lease()
    cache.publish(lease, hashes, len(hashes))
    lease.full = len(hashes)
    return lease


def hit(cache: PrefixCache, hashes: list[int]) -> list[Run]:
    return [run for run, _ in cache.find(hashes, len(hashes))]


def test_only_the_common_beginning_is_found() -> None:
    """A search ends at the first block that differs, and at its limit."""
    cache = PrefixCache()
    (run,) = published(cache, [1, 2, 3, 4, 5]).runs
    assert cache.find([1, 2, 3, 8, 9], 5) == [(run, 3)]
    assert cache.find([1, 2, 3, 4, 5, 6], 2) == [(run, 2)]
    assert cache.find([7, 2, 3], 3) == []


def test_both_parts_of_a_split_run_stay_held_and_can_be_hit() -> None:
    """A run cut in two is held in the same order by the same leases, and found whole."""
    cache = PrefixCache()
    lease = published(cache, [1, 2, 3, 4])
    (rest,) = lease.runs
    head = cache.split(rest, 1)
    assert lease.runs == [head, rest]
    assert list(head.holders) == list(rest.holders) == [lease]
    assert cache.find([1, 2, 3, 4], 4) == [(head, 1), (rest, 3)]


def test_a_copy_is_hit_once_those_before_it_are_gone() -> None:
    """Of equal blocks the first published is the one to be hit; evicting it hands its place to the next."""
    cache = PrefixCache()
    first, second, third = (published(cache, [1, 2]) for _ in range(3))
    assert hit(cache, [1, 2]) == first.runs
    cache.forget(second.runs[1], [2])
    cache.forget(first.runs[0], [1, 2])
    assert hit(cache, [1, 2]) == [second.runs[0], third.runs[1]]


def test_a_block_that_was_just_generated_is_found() -> None:
    """Whoever searches may publish what is missing, and the search goes on through a run that grew by it."""
    cache = PrefixCache()
    lease = published(cache, [1, 2])

    def publish(value: int) -> bool:
        if value != 3:
            return False
        cache.publish(lease, [1, 2, 3], 3)
        lease.full = 3
        return True

    assert cache.find([1, 2, 3, 4], 4, publish) == [(lease.runs[0], 3)]

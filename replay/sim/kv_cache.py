"""The KV cache: reference-counted blocks with a prefix cache, as vLLM V1's block pool keeps them.

Full blocks are known by a hash chained over everything before them. Full blocks that nobody holds wait in one queue,
least recently freed first; a block keeps its hash there and can be hit until it is taken for something else. A request
frees its blocks from the last to the first, so that the beginnings of prompts survive longest. Blocks without a hash
are taken before any of them.

Blocks live in *runs*, stretches of one chain that are held, freed and evicted together, so that most operations cost a
run and not a block; a run is split when a request shares only its beginning. What is evicted, and when, is what
block-by-block bookkeeping gives.

Whoever holds or frees a block does so with all before it, so a cached block's chain is cached from its beginning. That
is why only the first hash of a run need be looked up: whatever leads to a block inside leads through the first one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from struct import pack

import numpy as np
import numpy.typing as npt

Ids = Sequence[int] | npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def as_array(ids: Ids) -> npt.NDArray[np.int64]:
    """Token ids as an array of 64-bit integers."""
    if isinstance(ids, np.ndarray):
        return ids.astype(np.int64, copy=False)
    return np.frombuffer(pack(f"{len(ids)}q", *ids), dtype=np.int64)


def block_hashes(ids: Ids, block_size: int, salt: str | None = None) -> list[int]:
    """The chained hash of every full block of ``ids``, 64 bits each.

    Each block's tokens are weighed with random constants and summed (a multilinear hash), and the sum with the block's
    place is mixed (splitmix64). A block's hash is the sum of these up to it, modulo 2**64: equal when everything before
    is equal, otherwise not (but for chance), and computed without a loop.
    """
    count = len(ids) // block_size
    blocks = as_array(ids)[: count * block_size].view(np.uint64).reshape(count, block_size)
    sums = np.add.accumulate(_mixed(blocks @ _weights(block_size) + _places(count)))
    if salt is not None:
        sums += np.uint64(int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "big"))
    hashes: list[int] = sums.tolist()
    return hashes


def _places(count: int) -> Words:
    return np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN


@cache
def _weights(count: int) -> Words:
    return _mixed(_places(count)) | np.uint64(1)


def _mixed(z: Words) -> Words:
    """The finish of splitmix64."""
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


class Run:
    """A stretch of one chain of full blocks. A ``sealed`` one is a single block that may have twins."""

    __slots__ = ("hashes", "holders", "sealed")

    def __init__(self, hashes: list[int]) -> None:
        self.hashes = hashes
        self.holders: dict[Lease, None] = {}
        self.sealed = False


class Lease:
    """The blocks that one request holds: runs of full blocks, then ``blank`` blocks still being filled."""

    __slots__ = ("blank", "full", "runs")

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.full = 0
        self.blank = 0

    @property
    def blocks(self) -> int:
        """How many blocks are held."""
        return self.full + self.blank


Hits = list[tuple[Run, int]]


class BlockPool:
    """All KV blocks of one GPU. One of ``num_blocks`` is the null block that vLLM keeps for padding."""

    def __init__(self, num_blocks: int, block_size: int = 16, prefix_caching: bool = True) -> None:
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self.capacity = num_blocks - 1
        self.free_blocks = self.capacity
        self._blank = self.capacity
        self._queue: OrderedDict[Run, None] = OrderedDict()
        self._owner: dict[int, Run] = {}
        """By its first hash, every run that can be hit."""
        self._twins: dict[int, list[Run]] = {}
        """Copies of blocks in other runs, by their hash: each can be hit once those before it are gone."""

    @property
    def usage(self) -> float:
        """The share of blocks that requests hold, 0 to 1."""
        return 1.0 - self.free_blocks / self.capacity if self.capacity else 0.0

    def find(self, hashes: Sequence[int], limit: int, refresh: Callable[[int], bool] | None = None) -> Hits:
        """The cached runs that ``hashes`` begins with, at most ``limit`` blocks of them.

        ``refresh`` is asked about the first hash that is not cached; if it answers that now it is, the search goes on.
        """
        hits: Hits = []
        at = 0
        while at < limit:
            run = self._owner.get(hashes[at])
            if run is None:
                if refresh is None or not refresh(hashes[at]):
                    break
                if hits:
                    # The run found last may have grown by it.
                    at -= hits.pop()[1]
                continue
            own = run.hashes
            count = min(len(own), limit - at)
            # Hashes are chained: once they differ they stay different, so the shared part can be bisected.
            if own[count - 1] != hashes[at + count - 1]:
                low, high = 1, count - 1
                while low < high:
                    middle = (low + high + 1) // 2
                    if own[middle - 1] == hashes[at + middle - 1]:
                        low = middle
                    else:
                        high = middle - 1
                count = low
            hits.append((run, count))
            at += count
        return hits

    @staticmethod
    def unheld(hits: Hits) -> int:
        """How many of the hit blocks wait in the free queue, and would leave it."""
        return sum(count for run, count in hits if not run.holders)

    def hold(self, lease: Lease, hits: Hits) -> None:
        """Add cached blocks to an empty lease."""
        for run, count in hits:
            held = self._split(run, count) if count < len(run.hashes) else run
            if not held.holders:
                self.free_blocks -= count
                self._queue.pop(held, None)
            held.holders[lease] = None
            lease.runs.append(held)
            lease.full += count

    def take(self, count: int) -> None:
        """Take ``count`` blocks: those without a hash first, then out of the free queue, evicting what they cached."""
        self.free_blocks -= count
        blank = min(count, self._blank)
        self._blank -= blank
        count -= blank
        queue = self._queue
        while count:
            run = next(iter(queue))
            hashes = run.hashes
            taken = min(count, len(hashes))
            self._forget(run, hashes[-taken:])
            del hashes[-taken:]
            if not hashes:
                del queue[run]
            count -= taken

    def settle(self, lease: Lease, hashes: Sequence[int], tokens: int, known: int | None = None) -> None:
        """Record that ``lease`` now covers ``tokens`` tokens, in blocks that were taken before.

        Blocks that became full with tokens whose ids are ``known`` (all, unless a number is given) are published under
        their hashes and can be hit from now on.
        """
        full = (tokens if known is None else known) // self.block_size if self.prefix_caching else 0
        held = max(-(-tokens // self.block_size), lease.blocks)
        if full > lease.full:
            self._publish(lease, hashes, full)
            lease.full = full
        lease.blank = held - lease.full

    def release(self, lease: Lease) -> None:
        """Free everything that ``lease`` holds, last block first."""
        self._blank += lease.blank
        self.free_blocks += lease.blank
        for run in reversed(lease.runs):
            del run.holders[lease]
            if not run.holders:
                self._queue[run] = None
                self.free_blocks += len(run.hashes)
        lease.runs, lease.full, lease.blank = [], 0, 0

    def reset(self) -> bool:
        """Forget everything cached. Refused, as in vLLM, while requests hold blocks."""
        if self.free_blocks != self.capacity:
            return False
        self._owner.clear()
        self._twins.clear()
        self._queue.clear()
        self._blank = self.capacity
        return True

    def _split(self, run: Run, count: int) -> Run:
        """Cut the first ``count`` blocks off as a run of their own; ``run`` keeps the rest and its queue place."""
        head = Run(run.hashes[:count])
        del run.hashes[:count]
        head.holders = dict(run.holders)
        self._owner[head.hashes[0]] = head
        self._owner[run.hashes[0]] = run
        for lease in head.holders:
            lease.runs.insert(lease.runs.index(run), head)
        return head

    def _publish(self, lease: Lease, chain: Sequence[int], full: int) -> None:
        new = list(chain[lease.full : full])
        last = lease.runs[-1] if lease.runs else None
        known = lease.full
        if new[0] in self._owner or (last is not None and last.sealed):
            known = sum(count for _, count in self.find(chain, full))
        if known <= lease.full:
            if last is not None and len(last.holders) == 1 and not last.sealed:
                last.hashes += new
            else:
                self._owner[new[0]] = self._new_run(lease, new)
            return
        # Somebody else computed some of these blocks: both copies stay, each a run of one block, and only one is hit.
        for place, value in enumerate(new, lease.full):
            run = self._new_run(lease, [value])
            run.sealed = True
            if place < known:
                self._twins.setdefault(value, []).append(run)
            else:
                self._owner[value] = run

    @staticmethod
    def _new_run(lease: Lease, hashes: list[int]) -> Run:
        run = Run(hashes)
        run.holders[lease] = None
        lease.runs.append(run)
        return run

    def _forget(self, run: Run, hashes: list[int]) -> None:
        """Take the last blocks of a run out of the cache; the first of their twins, if any, can be hit from now on."""
        if self._twins:
            if run.sealed and self._owner.get(hashes[0]) is not run:
                self._drop_twin(run)
                return
            heirs = {value: self._twins[value][0] for value in hashes if value in self._twins}
            for value, heir in heirs.items():
                self._drop_twin(heir)
                self._owner[value] = heir
            if hashes[0] in heirs:
                return
        if len(hashes) == len(run.hashes):
            del self._owner[hashes[0]]

    def _drop_twin(self, run: Run) -> None:
        twins = self._twins[run.hashes[0]]
        twins.remove(run)
        if not twins:
            del self._twins[run.hashes[0]]

"""The KV cache: reference-counted blocks with a prefix cache, as vLLM V1's block pool keeps them.

Full blocks are known by a hash chained over everything before them. Full blocks that nobody holds wait in one queue,
least recently freed first; a block keeps its hash there and can be hit until it is taken for something else. A request
frees its blocks from the last to the first, so that the beginnings of prompts survive longest. Blocks without a hash
are taken before any of them.

What is evicted, and when, is what block-by-block bookkeeping gives, though it is done by runs of blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from rejoule.replay.sim.prefix_cache import Hits, Lease, PrefixCache, Run


class BlockPool:
    """All KV blocks of one GPU. One of ``num_blocks`` is the null block that vLLM keeps for padding."""

    def __init__(self, num_blocks: int, block_size: int = 16, prefix_caching: bool = True) -> None:
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self.capacity = num_blocks - 1
        self.free_blocks = self.capacity
        self.cache = PrefixCache()
        self._blank = self.capacity
        self._queue: OrderedDict[Run, None] = OrderedDict()

    @property
    def usage(self) -> float:
        """The share of blocks that requests hold, 0 to 1."""
        return 1.0 - self.free_blocks / self.capacity if self.capacity else 0.0

    @staticmethod
    def unheld(hits: Hits) -> int:
        """How many of the hit blocks wait in the free queue, and would leave it."""
        return sum(count for run, count in hits if not run.holders)

    def hold(self, lease: Lease, hits: Hits) -> None:
        """Add cached blocks to an empty lease."""
        for run, count in hits:
            held = self.cache.split(run, count) if count < len(run.hashes) else run
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
            self.cache.forget(run, hashes[-taken:])
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
            self.cache.publish(lease, hashes, full)
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
        self.cache.clear()
        self._queue.clear()
        self._blank = self.capacity
        return True

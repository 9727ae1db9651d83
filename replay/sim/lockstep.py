"""Requests that decode move in lockstep, one token a step, so none of them is visited.

A request knows the *tick* (the number of steps so far) at which it began and hence its length at any tick, and the
blocks that a step needs follow from how many requests stand at each offset within a block.
"""

from __future__ import annotations

from heapq import heappop, heappush
from operator import attrgetter

from rejoule.replay.sim.jobs import Job


class Lockstep:
    """The decoding requests. ``bases`` has, for each of ``jobs``, its length minus the tick.

    ``version`` changes whenever the set of them does.
    """

    def __init__(self, block_size: int) -> None:
        self.tick = 0
        self.version = 0
        self.jobs: dict[str, Job] = {}
        self.bases: dict[str, int] = {}
        self._block_size = block_size
        self._base_sum = 0
        self._offsets = [0] * block_size
        self._finishing: list[tuple[int, int, Job]] = []
        self.telling: dict[Job, None] = {}
        """Those whose senders want to know how far they are."""

    @property
    def context(self) -> int:
        """The sum of their lengths."""
        return self._base_sum + len(self.jobs) * self.tick

    def join(self, job: Job) -> None:
        """A prompt is complete: from the next step on its request decodes."""
        job.decoding = True
        job.base = job.computed - self.tick
        job.finish_tick = self.tick + job.request.output_tokens - job.produced
        self.jobs[job.request.id] = job
        self.bases[job.request.id] = job.base
        self._base_sum += job.base
        self._offsets[job.base % self._block_size] += 1
        heappush(self._finishing, (job.finish_tick, job.number, job))
        if job.tells_next is not None:
            self.telling[job] = None
        self.version += 1

    def leave(self, job: Job) -> None:
        """``job`` decodes no longer; its counts are brought up to date."""
        job.computed, job.produced = job.computed_at(self.tick), job.produced_at(self.tick)
        job.decoding = False
        self.telling.pop(job, None)
        del self.jobs[job.request.id]
        del self.bases[job.request.id]
        self._base_sum -= job.base
        self._offsets[job.base % self._block_size] -= 1
        self.version += 1

    def delay(self, job: Job) -> None:
        """``job`` missed the step before this tick."""
        self._base_sum -= 1
        self._offsets[job.base % self._block_size] -= 1
        job.base -= 1
        self.bases[job.request.id] = job.base
        self._offsets[job.base % self._block_size] += 1
        job.finish_tick += 1
        heappush(self._finishing, (job.finish_tick, job.number, job))
        self.version += 1

    def blocks_now(self) -> int:
        """Blocks that they need for the next step."""
        return self._offsets[-self.tick % self._block_size]

    def blocks_for(self, steps: int) -> int:
        """Blocks that they need for steps 2 to ``steps`` from now."""
        size = self._block_size
        rounds, rest = divmod(steps - 1, size)
        first = self.tick + 1
        return rounds * len(self.jobs) + sum(self._offsets[-(first + i) % size] for i in range(rest))

    def steps_within(self, blocks: int, most: int) -> int:
        """For how many steps, up to ``most`` and at least one, ``blocks`` suffice beyond those for the next step."""
        if self.blocks_for(most) <= blocks:
            return most
        low = 1
        while low < most:
            middle = (low + most + 1) // 2
            if self.blocks_for(middle) <= blocks:
                low = middle
            else:
                most = middle - 1
        return low

    def next_finish(self) -> int:
        """The tick at which the first of them is complete."""
        heap = self._finishing
        while not heap[0][2].decoding or heap[0][2].finish_tick != heap[0][0]:
            heappop(heap)
        return heap[0][0]

    def next_tell(self) -> int:
        """The tick at which the first of the senders that want to know has something to learn."""
        return min(self.tick + (job.tells_next or 0) - job.produced_at(self.tick) for job in self.telling)

    def tell(self) -> list[tuple[Job, int]]:
        """Whose senders now have something to learn, and the number of tokens."""
        found = []
        for job in list(self.telling):
            while (tells := job.tells_next) is not None and tells <= job.produced_at(self.tick):
                found.append((job, tells))
                job.told += 1
            if tells is None:
                del self.telling[job]
        return found

    def finished(self) -> list[Job]:
        """Those that are complete by now, in the order of their seats."""
        found: list[Job] = []
        while self._finishing and self._finishing[0][0] <= self.tick:
            tick, _, job = heappop(self._finishing)
            if job.decoding and job.finish_tick == tick:
                found.append(job)
        found.sort(key=attrgetter("seat"))
        return found

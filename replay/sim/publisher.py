"""Publishing of full blocks, for others to hit, in the order in which vLLM would have cached them.

A decoding request is not visited while its blocks fill up: what it generated is published when somebody looks for it or
has equal blocks to publish, or when it ends.
"""

from __future__ import annotations

from rejoule.replay.sim.jobs import Job
from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.lockstep import Lockstep


class Publisher:
    """Publishes into ``pool``, and knows which blocks the decoding requests are generating.

    ``lag`` tokens of a request are in the cache before their ids are known.
    """

    def __init__(self, pool: BlockPool, decoding: Lockstep, lag: int) -> None:
        self.pool = pool
        self.decoding = decoding
        self.planning = False
        """Whether the tokens of the next step count too, of those requests that were planned before."""
        self._lag = lag
        self._growing: dict[int, Job] = {}
        self._rivals: dict[int, list[Job]] = {}

    def hashes(self, job: Job) -> list[int]:
        """The block hashes of prompt and answer; none without prefix caching."""
        if not self.pool.prefix_caching:
            return []
        return job.block_hashes or job.hashes(self.pool.block_size)

    def awaits(self, job: Job) -> bool:
        """Whether ``job`` might share a block that is being generated."""
        return not self._growing.keys().isdisjoint(self.hashes(job))

    def begin(self, job: Job) -> None:
        """``job`` decodes from now on."""
        if not self.pool.prefix_caching or job.produced == job.request.output_tokens:
            return
        growing = self._growing
        for value in self.hashes(job)[job.computed // self.pool.block_size :]:
            if growing.setdefault(value, job) is not job:
                self._rivals.setdefault(value, []).append(job)

    def end(self, job: Job) -> None:
        """``job`` no longer decodes; others that generate the same blocks take its place."""
        growing = self._growing
        for value in self.hashes(job)[job.prompt_tokens // self.pool.block_size :]:
            if self._rivals:
                self._hand_on(job, value)
            elif growing.get(value) is job:
                del growing[value]

    def settle(self, job: Job, tokens: int, known: int | None = None) -> None:
        """Publish what a request has computed, after those who generated the same blocks before it."""
        hashes = self.hashes(job)
        full = (tokens if known is None else known) // self.pool.block_size
        if hashes and full > job.lease.full:
            new = hashes[job.lease.full : full]
            if not self._growing.keys().isdisjoint(new) and (self._rivals or not job.decoding):
                for value in new:
                    self.publish(value, job)
        self.pool.settle(job.lease, hashes, tokens, known)

    def publish(self, value: int, before: Job | None = None) -> bool:
        """Publish the block ``value`` of everyone who has generated it, or did ``before`` another: whether any did."""
        first = self._growing.get(value)
        if first is None:
            return False
        jobs = [first, *self._rivals.get(value, ())]
        jobs.sort(key=self._progress)
        if before is not None and before.decoding:
            jobs = [job for job in jobs if self._progress(job) < self._progress(before)]
        found = False
        for job in jobs:
            if job is before:
                continue
            planned = self.planning and (before is None or job.seat < before.seat)
            tokens = job.computed_at(self.decoding.tick)
            known = tokens + planned - self._lag
            blocks = job.lease.full
            hashes = self.hashes(job)
            self.pool.settle(job.lease, hashes, max(tokens, known - known % self.pool.block_size), known)
            found |= value in hashes[blocks : job.lease.full]
        return found

    def _hand_on(self, job: Job, value: int) -> None:
        growing, rivals = self._growing, self._rivals
        if value not in rivals:
            if growing.get(value) is job:
                del growing[value]
            return
        others = rivals[value]
        if growing[value] is job:
            growing[value] = others.pop(0)
        elif job in others:
            others.remove(job)
        if not others:
            del rivals[value]

    def _progress(self, job: Job) -> tuple[int, int]:
        return -job.computed_at(self.decoding.tick), job.seat

"""The requests that hold a seat, and the blocks that they fill."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from rejoule.replay.sim.jobs import Job
from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.lockstep import Lockstep
from rejoule.replay.sim.publisher import Publisher


class Running:
    """Each request with a seat is one of the ``decoding``, in the middle of its prompt (``partial``), or ``leaving``.

    With a ``lag`` of 1 a step is chosen before the tokens of the step before it are known: a request that is complete
    keeps its seat and its blocks for one more choice, and is leaving until then.
    """

    def __init__(self, pool: BlockPool, lag: int) -> None:
        self.pool = pool
        self.decoding = Lockstep(pool.block_size)
        self.partial: list[Job] = []
        self.leaving: list[Job] = []
        self.publisher = Publisher(pool, self.decoding, lag)
        self._lag = lag

    def __len__(self) -> int:
        return len(self.decoding.jobs) + len(self.partial) + len(self.leaving)

    def seated(self) -> list[Job]:
        """All of them, in the order of admission."""
        return sorted([*self.decoding.jobs.values(), *self.partial, *self.leaving], key=attrgetter("seat"))

    def missing_blocks(self, job: Job, tokens: int) -> int:
        """Blocks to take for ``tokens`` more tokens of ``job``."""
        size = self.pool.block_size
        if job.decoding:
            return int((job.base + self.decoding.tick) % size == 0)
        return max(0, -(-(job.computed + tokens) // size) - job.lease.blocks)

    def settle_chunk(self, job: Job, tokens: int) -> None:
        """Blocks were taken for ``tokens`` more tokens of a prompt, which the next step computes."""
        self.publisher.horizon = job.seat
        self.publisher.settle(job, job.computed + tokens)
        self.publisher.horizon = 0

    def settle_last_step(self, skipped: Sequence[Job]) -> None:
        """The next step is chosen, without a token of ``skipped``: what came of the one before it is known only now."""
        publisher, tick = self.publisher, self.decoding.tick
        for job in publisher.late:
            # The token of this step is known already, unlike that of others.
            if job.decoding and job not in skipped:
                publisher.settle(job, job.computed_at(tick) + 1)
        publisher.late = {}
        for job in self.leaving:
            publisher.horizon = max(job.seat, publisher.horizon)
            publisher.settle(job, job.computed)
            self.pool.release(job.lease)
        self.leaving = []
        for job in skipped:
            publisher.horizon = skipped[0].seat
            publisher.settle(job, job.computed_at(tick))
        publisher.horizon = 0

    def skip(self, skipped: Sequence[Job]) -> None:
        """These requests missed the step that is done."""
        for job in skipped:
            self.decoding.delay(job)
        if self._lag:
            self.publisher.late = dict.fromkeys(skipped)

    def compute(self, job: Job, tokens: int) -> bool:
        """``tokens`` more tokens of its prompt are done; whether it is complete, with a token of the answer."""
        job.computed += tokens
        partial = self.partial
        if job.computed < job.prompt_tokens + job.produced:
            if job not in partial:
                partial.append(job)
            return False
        if partial and job in partial:
            partial.remove(job)
        job.produced += 1
        self.decoding.join(job)
        self.publisher.begin(job)
        return True

    def finish(self, job: Job) -> None:
        """A request is complete."""
        self._unseat(job, 0)
        if self._lag:
            self.leaving.append(job)
        else:
            self.pool.release(job.lease)

    def drop(self, job: Job, granted: int = 0) -> bool:
        """Free a request's seat and blocks, ``granted`` tokens of the next step included; whether it was incomplete.

        What it computed stays in the cache.
        """
        leaves = job in self.leaving
        if leaves:
            self.leaving.remove(job)
        else:
            self._unseat(job, granted)
        self.pool.release(job.lease)
        return not leaves

    def _unseat(self, job: Job, granted: int) -> None:
        """Take a request out of the running, with its blocks up to date for it to give up."""
        publisher = self.publisher
        if granted:
            publisher.horizon = job.seat
        if job.decoding:
            computed = job.computed_at(self.decoding.tick)
            publisher.settle(job, computed + granted, computed + granted - publisher.lag(job))
            self.decoding.leave(job)
            publisher.end(job)
        else:
            self.partial.remove(job)
            publisher.settle(job, job.computed + granted)
        publisher.horizon = 0

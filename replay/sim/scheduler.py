"""Which tokens go into the next step: vLLM V1's scheduling, without a clock and without I/O.

Running requests come first, one token each or the next chunk of a prompt, in the order in which they were admitted.
Waiting requests follow while seats, the token budget and KV blocks last, unless something was just preempted. Without
blocks for a running request, the last one admitted (FCFS) or the one with the greatest (priority, arrival) is
preempted: it gives up its blocks, goes to the front of the waiting, and computes everything again except what the
prefix cache still has.

Scheduled asynchronously, a step is chosen before the tokens of the step before it are known: a request that is complete
keeps its seat and its blocks for one more choice, and a block can be hit one step later.

Requests that decode are gone through in order only where tokens or blocks run short.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from operator import attrgetter
from typing import NamedTuple

from rejoule.replay.sim.jobs import Job
from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.limits import Limits
from rejoule.replay.sim.preemption import squeeze
from rejoule.replay.sim.running import Running
from rejoule.replay.sim.waiting import WaitingQueue


class Chunk(NamedTuple):
    """Prompt tokens of one request in one step: ``tokens`` new ones after ``context`` that the cache holds already."""

    job: Job
    tokens: int
    context: int
    cached: int


class Plan(NamedTuple):
    """One step. Every decoding request gets one token except those in ``skipped``.

    Nothing is computed where there are neither chunks nor decodes.
    """

    chunks: Sequence[Chunk]
    decodes: int
    decode_context: int
    preempted: Sequence[Job]
    skipped: Sequence[Job]


class Scheduler:
    """The waiting, the running, and their blocks.

    ``plan`` fixes the next step, ``extend`` repeats it, ``commit`` says that it is done.
    """

    def __init__(self, pool: BlockPool, limits: Limits) -> None:
        self.pool = pool
        self.limits = limits
        self.prompt_tokens = 0
        self.queried_tokens = 0
        self.hit_tokens = 0
        self.preemptions = 0
        self._running = Running(pool, int(limits.async_scheduling))
        self._waiting = WaitingQueue(limits.policy)
        self.decoding = self._running.decoding
        self.partial = self._running.partial
        self._publisher = self._running.publisher
        self._seats = 0
        self._plan: Plan | None = None
        self._changing = False

    @property
    def running(self) -> int:
        """Requests that hold a seat."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait for a seat, for budget or for blocks."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.decoding.jobs or self._waiting or self._running)

    def seated(self) -> list[Job]:
        """Everyone who holds a seat, in the order of admission."""
        return self._running.seated()

    def queued(self) -> list[Job]:
        """Everyone who waits, the next one first."""
        return self._waiting.jobs()

    def add(self, job: Job) -> None:
        """Let a request wait."""
        self._waiting.add(job)

    def abort(self, job: Job) -> None:
        """Drop a request wherever it is; what it computed stays in the cache."""
        if job.decoding or job in self.partial:
            self._running.drop(job)
        else:
            self._waiting.remove(job)

    def plan(self) -> Plan:
        """Choose the next step and take the blocks it needs."""
        running, decoding = self._running, self.decoding
        chunks: list[Chunk] = []
        preempted: list[Job] = []
        skipped: list[Job] = []
        budget = self.limits.max_num_batched_tokens
        self._changing = bool(self.partial or (running.leaving and self._waiting))
        granted = self._grants(budget)
        need = decoding.blocks_now()
        for job, tokens in granted.items():
            need += running.missing_blocks(job, tokens)
        if need <= self.pool.free_blocks and len(decoding.jobs) + sum(granted.values()) <= budget:
            self.pool.take(need)
        else:
            preempted, skipped, granted = squeeze(running, self._waiting, self.limits)
            self.preemptions += len(preempted)
        decodes = len(decoding.jobs) - len(skipped)
        budget -= decodes
        for job, tokens in granted.items():
            running.settle_chunk(job, tokens)
            chunks.append(Chunk(job, tokens, job.computed, 0))
            budget -= tokens
        self._publisher.horizon = skipped[0].seat if skipped else inf
        if not preempted:
            self._admit(chunks, budget)
        running.settle_last_step(skipped)
        context = decoding.context - sum(job.base + decoding.tick for job in skipped)
        self._changing |= bool(chunks or preempted or skipped)
        self._plan = Plan(chunks, decodes, context, preempted, skipped)
        return self._plan

    def steady_steps(self, limit: int) -> int:
        """For how many steps, the planned one included, the plan stays as it is; 1 unless all it does is decode."""
        if self._changing or not self.decoding.jobs or self._awaits_growth():
            return 1
        most = min(limit, self.decoding.next_finish() - self.decoding.tick)
        if self.decoding.telling:
            most = min(most, self.decoding.next_tell() - self.decoding.tick)
        return self.decoding.steps_within(self.pool.free_blocks, most)

    @property
    def changing(self) -> bool:
        """Whether the planned step does anything but decode, or the next one might."""
        return self._changing

    def extend(self, steps: int) -> None:
        """Take the blocks for a planned step to be done ``steps`` times."""
        if steps > 1:
            self.pool.take(self.decoding.blocks_for(steps))

    def commit(self, steps: int) -> tuple[list[Job], list[Job]]:
        """The plan was carried out ``steps`` times: the requests that got their first token, and those now complete."""
        plan, running = self._plan, self._running
        assert plan is not None
        self._plan = None
        self.decoding.tick += steps
        running.skip(plan.skipped)
        # A preempted request that computes everything again has told its first token before.
        firsts = [job for job, tokens, _, _ in plan.chunks if running.compute(job, tokens) and job.produced == 1]
        finished = self.decoding.finished()
        for job in finished:
            running.finish(job)
        return firsts, finished

    def _admit(self, chunks: list[Chunk], budget: int) -> None:
        pool, limits, waiting = self.pool, self.limits, self._waiting
        seats = limits.max_num_seqs - self.running
        while budget > 0 and seats > 0 and (job := waiting.first) is not None:
            total = job.prompt_tokens + job.produced
            hashes = self._publisher.hashes(job)
            hits = pool.cache.find(hashes, (total - 1) // pool.block_size, self._publisher.publish) if hashes else []
            cached = sum(count for _, count in hits) * pool.block_size
            tokens = limits.chunk(total - cached)
            if tokens > budget and not limits.enable_chunked_prefill:
                return
            tokens = min(tokens, budget)
            # The whole input has to fit, not only its first chunk: vLLM's scheduler_reserve_full_isl.
            hit_blocks = cached // pool.block_size
            if -(-total // pool.block_size) - hit_blocks > pool.free_blocks - pool.unheld(hits):
                return
            waiting.pop()
            pool.hold(job.lease, hits)
            pool.take(-(-(cached + tokens) // pool.block_size) - hit_blocks)
            job.seat = self._seats
            self._seats += 1
            self._publisher.settle(job, cached + tokens)
            job.computed = cached
            chunks.append(Chunk(job, tokens, cached, cached))
            if job.cached is None:
                job.cached = cached
                self.prompt_tokens += total
                self.queried_tokens += total if pool.prefix_caching else 0
                self.hit_tokens += cached
            budget -= tokens
            seats -= 1

    def _grants(self, budget: int) -> dict[Job, int]:
        """The next chunk of every prompt under way, if nobody runs short."""
        if not self.partial:
            return {}
        if not self.limits.long_prefill_token_threshold:
            # A prompt that is in pieces took all that was left, so nobody was admitted after it.
            (job,) = self.partial
            return {job: min(self.limits.chunk(job.rest), budget - len(self.decoding.jobs))}
        return {job: self.limits.chunk(job.rest) for job in sorted(self.partial, key=attrgetter("seat"))}

    def _awaits_growth(self) -> bool:
        """Whether the next request, which has a seat but no blocks, might share some that are being generated."""
        job = self._waiting.first
        if job is None or self.running >= self.limits.max_num_seqs:
            return False
        return self._publisher.awaits(job)

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
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf
from operator import attrgetter
from typing import Literal, NamedTuple

from rejoule.replay.sim.jobs import Job
from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.lockstep import Lockstep
from rejoule.replay.sim.publisher import Publisher

Policy = Literal["fcfs", "priority"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a step: vLLM's options of the same names. ``long_prefill_token_threshold`` 0 is none."""

    max_num_seqs: int
    max_num_batched_tokens: int
    policy: Policy = "fcfs"
    long_prefill_token_threshold: int = 0
    enable_chunked_prefill: bool = True
    async_scheduling: bool = False


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
        self.decoding = Lockstep(pool.block_size)
        self.partial: list[Job] = []
        self.prompt_tokens = 0
        self.queried_tokens = 0
        self.hit_tokens = 0
        self.preemptions = 0
        self._leaving: list[Job] = []
        self._waiting: list[tuple[tuple[int, float, int], Job]] = []
        self._lag = int(limits.async_scheduling)
        self._front = 0
        self._seats = 0
        self._publisher = Publisher(pool, self.decoding, self._lag)
        self._plan: Plan | None = None
        self._changing = False

    @property
    def running(self) -> int:
        """Requests that hold a seat."""
        return len(self.decoding.jobs) + len(self.partial) + len(self._leaving)

    @property
    def waiting(self) -> int:
        """Requests that wait for a seat, for budget or for blocks."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.decoding.jobs or self._waiting or self.partial or self._leaving)

    def seated(self) -> list[Job]:
        """Everyone who holds a seat, in the order of admission."""
        return sorted([*self.decoding.jobs.values(), *self.partial, *self._leaving], key=attrgetter("seat"))

    def queued(self) -> list[Job]:
        """Everyone who waits, the next one first."""
        return [job for _, job in sorted(self._waiting, key=lambda entry: entry[0])]

    def add(self, job: Job) -> None:
        """Let a request wait."""
        key = job.rank if self.limits.policy == "priority" else (0, job.arrival_s, job.number)
        heappush(self._waiting, (key, job))

    def abort(self, job: Job) -> None:
        """Drop a request wherever it is; what it computed stays in the cache."""
        if job.decoding or job in self.partial:
            self._vacate(job)
            self.pool.release(job.lease)
        else:
            self._waiting = [entry for entry in self._waiting if entry[1] is not job]
            heapify(self._waiting)

    def plan(self) -> Plan:
        """Choose the next step and take the blocks it needs."""
        chunks: list[Chunk] = []
        preempted: list[Job] = []
        skipped: list[Job] = []
        budget = self.limits.max_num_batched_tokens
        self._changing = bool(self.partial or (self._leaving and self._waiting))
        granted = self._grants(budget)
        need = self.decoding.blocks_now()
        for job, tokens in granted.items():
            need += self._need(job, tokens)
        if need <= self.pool.free_blocks and len(self.decoding.jobs) + sum(granted.values()) <= budget:
            self.pool.take(need)
        else:
            preempted, skipped, granted = self._squeeze()
        decodes = len(self.decoding.jobs) - len(skipped)
        budget -= decodes
        for job, tokens in granted.items():
            self._settle_chunk(job, tokens)
            chunks.append(Chunk(job, tokens, job.computed, 0))
            budget -= tokens
        self._publisher.horizon = skipped[0].seat if skipped else inf
        if not preempted:
            self._admit(chunks, budget)
        context = self.decoding.context - sum(job.base + self.decoding.tick for job in skipped)
        self._changing |= bool(chunks or preempted or skipped)
        for job in self._publisher.late:
            # The token of this step is known already, unlike that of others.
            if job.decoding and job not in skipped:
                self._publisher.settle(job, job.computed_at(self.decoding.tick) + 1)
        self._publisher.late = {}
        # What came of the step before is known only once this one was chosen.
        for job in self._leaving:
            self._publisher.horizon = max(job.seat, self._publisher.horizon)
            self._publisher.settle(job, job.computed)
            self.pool.release(job.lease)
        self._leaving = []
        for job in skipped:
            self._publisher.horizon = skipped[0].seat
            self._publisher.settle(job, job.computed_at(self.decoding.tick))
        self._publisher.horizon = 0
        self._plan = Plan(chunks, decodes, context, preempted, skipped)
        return self._plan

    def steady_steps(self, limit: int) -> int:
        """For how many steps, the planned one included, the plan stays as it is; 1 unless all it does is decode."""
        if self._changing or not self.decoding.jobs or self._awaits_growth():
            return 1
        most = min(limit, self.decoding.next_finish() - self.decoding.tick)
        if self.decoding.blocks_for(most) <= self.pool.free_blocks:
            return most
        low = 1
        while low < most:
            middle = (low + most + 1) // 2
            if self.decoding.blocks_for(middle) <= self.pool.free_blocks:
                low = middle
            else:
                most = middle - 1
        return low

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
        plan = self._plan
        assert plan is not None
        self._plan = None
        self.decoding.tick += steps
        for job in plan.skipped:
            self.decoding.delay(job)
        if self._lag:
            self._publisher.late = dict.fromkeys(plan.skipped)
        firsts: list[Job] = []
        partial = self.partial
        for chunk in plan.chunks:
            job = chunk.job
            job.computed += chunk.tokens
            if job.computed < job.prompt_tokens + job.produced:
                if job not in partial:
                    partial.append(job)
                continue
            if partial and job in partial:
                partial.remove(job)
            if not job.produced:
                firsts.append(job)
            job.produced += 1
            self.decoding.join(job)
            self._publisher.begin(job)
        finished = self.decoding.finished()
        for job in finished:
            self._vacate(job)
            if self._lag:
                self._leaving.append(job)
            else:
                self.pool.release(job.lease)
        return firsts, finished

    def _admit(self, chunks: list[Chunk], budget: int) -> None:
        pool, limits = self.pool, self.limits
        seats = limits.max_num_seqs - self.running
        while self._waiting and budget > 0 and seats > 0:
            job = self._waiting[0][1]
            total = job.prompt_tokens + job.produced
            hashes = self._publisher.hashes(job)
            hits = pool.cache.find(hashes, (total - 1) // pool.block_size, self._publisher.publish) if hashes else []
            cached = sum(count for _, count in hits) * pool.block_size
            tokens = self._at_most(total - cached)
            if tokens > budget and not limits.enable_chunked_prefill:
                return
            tokens = min(tokens, budget)
            # The whole input has to fit, not only its first chunk: vLLM's scheduler_reserve_full_isl.
            hit_blocks = cached // pool.block_size
            if -(-total // pool.block_size) - hit_blocks > pool.free_blocks - pool.unheld(hits):
                return
            heappop(self._waiting)
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

    def _at_most(self, tokens: int) -> int:
        threshold = self.limits.long_prefill_token_threshold
        return min(tokens, threshold) if threshold else tokens

    def _rest(self, job: Job) -> int:
        return self._at_most(job.prompt_tokens + job.produced - job.computed)

    def _grants(self, budget: int) -> dict[Job, int]:
        """The next chunk of every prompt under way, if nobody runs short."""
        if not self.partial:
            return {}
        if not self.limits.long_prefill_token_threshold:
            # A prompt that is in pieces took all that was left, so nobody was admitted after it.
            (job,) = self.partial
            return {job: min(self._rest(job), budget - len(self.decoding.jobs))}
        return {job: self._rest(job) for job in sorted(self.partial, key=attrgetter("seat"))}

    def _need(self, job: Job, tokens: int) -> int:
        """Blocks to take for ``tokens`` more tokens of a running request."""
        size = self.pool.block_size
        if job.decoding:
            return int((job.base + self.decoding.tick) % size == 0)
        return max(0, -(-(job.computed + tokens) // size) - job.lease.blocks)

    def _squeeze(self) -> tuple[list[Job], list[Job], dict[Job, int]]:
        """Give the running requests their tokens and blocks one after the other, preempting where blocks are short.

        Returns the preempted, the decoding who miss this step, and how many tokens of each prompt to compute.
        """
        order = self.seated()
        budget = self.limits.max_num_batched_tokens
        preempted: list[Job] = []
        if self.limits.policy == "fcfs" and not self.partial:
            # Each takes one block or none, so only the victims need be looked at.
            need = self.decoding.blocks_now()
            while need > self.pool.free_blocks:
                need -= self.pool.free_blocks
                self.pool.take(self.pool.free_blocks)
                victim = order.pop()
                need -= self._need(victim, 1) if victim.decoding else 0
                self._preempt(victim, 0)
                preempted.append(victim)
            self.pool.take(need)
            return preempted, [], {}
        granted: dict[Job, int] = {}
        at = 0
        stuck = False
        while at < len(order) and budget > 0 and not stuck:
            job = order[at]
            if job in self._leaving:
                at += 1
                continue
            tokens = 1 if job.decoding else min(self._rest(job), budget)
            need = self._need(job, tokens)
            while need > self.pool.free_blocks and not stuck:
                victim = order[-1] if self.limits.policy == "fcfs" else max(order, key=lambda j: j.rank)
                place = order.index(victim)
                del order[place]
                at -= place < at
                restored = granted.pop(victim, 0)
                budget += restored
                self._preempt(victim, restored)
                preempted.append(victim)
                stuck = victim is job
            if not stuck:
                self.pool.take(need)
                granted[job] = tokens
                if not job.decoding:
                    # It counts even if its request is preempted for another in this very step.
                    self._settle_chunk(job, tokens)
                budget -= tokens
                at += 1
        skipped = [job for job in order if job.decoding and job not in granted]
        return preempted, skipped, {job: tokens for job, tokens in granted.items() if not job.decoding}

    def _preempt(self, job: Job, granted: int) -> None:
        """Send a running request back; blocks for ``granted`` tokens were taken for the step that it now misses."""
        job.preemptions += 1
        self.preemptions += 1
        if job in self._leaving:
            self._leaving.remove(job)
            self.pool.release(job.lease)
            return
        self._vacate(job, granted)
        self.pool.release(job.lease)
        job.computed = 0
        self._front -= 1
        key = job.rank if self.limits.policy == "priority" else (self._front, 0.0, 0)
        heappush(self._waiting, (key, job))

    def _settle_chunk(self, job: Job, tokens: int) -> None:
        self._publisher.horizon = job.seat
        self._publisher.settle(job, job.computed + tokens)
        self._publisher.horizon = 0

    def _vacate(self, job: Job, granted: int = 0) -> None:
        """Take a request out of the running, with its blocks up to date for it to give up."""
        if granted:
            self._publisher.horizon = job.seat
        if job.decoding:
            computed = job.computed_at(self.decoding.tick)
            self._publisher.settle(job, computed + granted, computed + granted - self._publisher.lag(job))
            self.decoding.leave(job)
            self._publisher.end(job)
        else:
            self.partial.remove(job)
            self._publisher.settle(job, job.computed + granted)
        self._publisher.horizon = 0

    def _awaits_growth(self) -> bool:
        """Whether the next request, which has a seat but no blocks, might share some that are being generated."""
        if not self._waiting or self.running >= self.limits.max_num_seqs:
            return False
        return self._publisher.awaits(self._waiting[0][1])

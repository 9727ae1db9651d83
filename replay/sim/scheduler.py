"""Which tokens go into the next step: vLLM V1's scheduling, without a clock and without I/O.

Running requests come first, one token each or the next chunk of a prompt, in the order in which they were admitted.
Waiting requests follow while seats, the token budget and KV blocks last, unless something was just preempted. Without
blocks for a running request, the last one admitted (FCFS) or the one with the greatest (priority, arrival) is
preempted: it gives up its blocks, goes to the front of the waiting, and computes everything again except what the
prefix cache still has.

Requests that decode move in lockstep, one token a step, so they are not visited: a request knows the *tick* (the number
of steps so far) at which it began and hence its length at any tick, and the blocks that a step needs follow from how
many requests stand at each offset within a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Literal, NamedTuple

import numpy as np

from rejoule.replay.sim.kv_cache import BlockPool, Ids, Lease, as_array, block_hashes

Policy = Literal["fcfs", "priority"]


@dataclass(frozen=True)
class SimRequest:
    """One request: its prompt and exactly how much it will answer.

    ``output_ids`` are the answer's ids when they are known, so that a later prompt that quotes them hits the cache;
    otherwise only their number, ``output_tokens``, matters. A lower ``priority`` is served sooner.
    """

    id: str
    prompt_ids: Ids
    output_tokens: int
    output_ids: Ids | None = None
    priority: int = 0
    cache_salt: str | None = None


class Job:
    """A request on its way through the engine. Token counts are of tokens whose keys and values are in the cache."""

    __slots__ = (
        "_hashes",
        "arrival_s",
        "base",
        "cached",
        "computed",
        "decoding",
        "finish_tick",
        "lease",
        "number",
        "preemptions",
        "produced",
        "prompt_tokens",
        "request",
    )

    def __init__(self, request: SimRequest, arrival_s: float, number: int) -> None:
        self.request = request
        self.arrival_s = arrival_s
        self.number = number
        self.prompt_tokens = len(request.prompt_ids)
        self.lease = Lease()
        self.computed = 0
        self.produced = 0
        self.base = 0
        self.decoding = False
        self.finish_tick = -1
        self.cached: int | None = None
        self.preemptions = 0
        self._hashes: list[int] | None = None

    @property
    def rank(self) -> tuple[int, float, int]:
        """Order under the priority policy: smaller is sooner."""
        return self.request.priority, self.arrival_s, self.number

    def hashes(self, block_size: int) -> list[int]:
        """The block hashes of prompt and answer, computed once."""
        if self._hashes is None:
            request = self.request
            if request.output_ids is not None:
                output = as_array(request.output_ids)
            else:
                # Nobody knows these tokens: ids that no prompt has, and no other request.
                output = -1 - (self.number << 24) - np.arange(request.output_tokens, dtype=np.int64)
            self._hashes = block_hashes(
                np.concatenate((as_array(request.prompt_ids), output)), block_size, request.cache_salt
            )
        return self._hashes


class Chunk(NamedTuple):
    """Prompt tokens of one request in one step: ``tokens`` new ones after ``context`` that the cache holds already."""

    job: Job
    tokens: int
    context: int
    cached: int


class Plan(NamedTuple):
    """One step. Every request in ``Scheduler.decoding`` gets one token except those in ``skipped``."""

    chunks: Sequence[Chunk]
    decodes: int
    decode_context: int
    preempted: Sequence[Job]
    skipped: Sequence[Job]


class Scheduler:
    """The waiting, the running, and their blocks.

    ``plan`` fixes the next step, ``extend`` repeats it, ``commit`` says that it is done. ``version`` changes whenever
    the set of decoding requests does.
    """

    def __init__(self, pool: BlockPool, max_num_seqs: int, max_num_batched_tokens: int, policy: Policy) -> None:
        self.pool = pool
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.policy = policy
        self.tick = 0
        self.version = 0
        self.decoding: dict[str, Job] = {}
        self.partial: Job | None = None
        self.prompt_tokens = 0
        self.queried_tokens = 0
        self.hit_tokens = 0
        self.preemptions = 0
        self._waiting: list[tuple[tuple[int, float, int], Job]] = []
        self._front = 0
        self._base_sum = 0
        self._offsets = [0] * pool.block_size
        self._finishing: list[tuple[int, int, Job]] = []
        self._growing: dict[int, Job] = {}
        self._plan: Plan | None = None

    @property
    def running(self) -> int:
        """Requests that hold a seat."""
        return len(self.decoding) + (self.partial is not None)

    @property
    def waiting(self) -> int:
        """Requests that wait for a seat, for budget or for blocks."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.decoding or self._waiting or self.partial)

    def add(self, job: Job) -> None:
        """Let a request wait."""
        key = job.rank if self.policy == "priority" else (0, job.arrival_s, job.number)
        heappush(self._waiting, (key, job))

    def abort(self, job: Job) -> None:
        """Drop a request wherever it is; what it computed stays in the cache."""
        if job is self.partial or job.decoding:
            self._leave(job)
        else:
            self._waiting = [entry for entry in self._waiting if entry[1] is not job]
            heapify(self._waiting)

    def plan(self) -> Plan:
        """Choose the next step and take the blocks it needs."""
        chunks: list[Chunk] = []
        preempted: list[Job] = []
        skipped: list[Job] = []
        budget = self.max_num_batched_tokens
        rest = self._chunk_of_partial(budget)
        need = self._offsets[-self.tick % self.pool.block_size] + self._partial_need(rest)
        if need <= self.pool.free_blocks:
            self.pool.take(need)
        else:
            preempted, skipped, rest = self._make_room()
        decodes = len(self.decoding) - sum(job.decoding for job in skipped)
        budget -= decodes
        if self.partial is not None and rest:
            job = self.partial
            chunks.append(Chunk(job, rest, job.computed, 0))
            self.pool.settle(job.lease, self._hashes(job), job.computed + rest)
            budget -= rest
        if not preempted:
            self._admit(chunks, budget)
        context = self._base_sum + len(self.decoding) * self.tick
        context -= sum(job.base + self.tick for job in skipped if job.decoding)
        self._plan = Plan(chunks, decodes, context, preempted, skipped)
        return self._plan

    def steady_steps(self, limit: int) -> int:
        """For how many steps, the planned one included, the plan stays as it is; 1 unless all it does is decode."""
        plan = self._plan
        assert plan is not None
        if plan.chunks or plan.preempted or plan.skipped or self.partial is not None:
            return 1
        most = min(limit, self._next_finish() - self.tick)
        if self._blocks_for(most) <= self.pool.free_blocks:
            return most
        low = 1
        while low < most:
            middle = (low + most + 1) // 2
            if self._blocks_for(middle) <= self.pool.free_blocks:
                low = middle
            else:
                most = middle - 1
        return low

    def extend(self, steps: int) -> None:
        """Take the blocks for a planned step to be done ``steps`` times."""
        if steps > 1:
            self.pool.take(self._blocks_for(steps))

    def commit(self, steps: int) -> tuple[list[Job], list[Job]]:
        """The plan was carried out ``steps`` times: the requests that got their first token, and those now complete."""
        plan = self._plan
        assert plan is not None
        self._plan = None
        self.tick += steps
        for job in plan.skipped:
            if job.decoding:
                self._delay(job)
        firsts: list[Job] = []
        for chunk in plan.chunks:
            job = chunk.job
            job.computed += chunk.tokens
            if job.computed < job.prompt_tokens + job.produced:
                self.partial = job
                continue
            if job is self.partial:
                self.partial = None
            if not job.produced:
                firsts.append(job)
            job.produced += 1
            self._join(job)
        finished: list[Job] = []
        while self._finishing and self._finishing[0][0] <= self.tick:
            tick, _, job = heappop(self._finishing)
            if job.decoding and job.finish_tick == tick:
                self._leave(job)
                finished.append(job)
        return firsts, finished

    def tokens_in_cache(self, job: Job) -> int:
        """How many tokens of a running request have been computed."""
        return job.base + self.tick if job.decoding else job.computed

    def tokens_produced(self, job: Job) -> int:
        """How many tokens a request has answered so far."""
        return self.tokens_in_cache(job) - job.prompt_tokens + 1 if job.decoding else job.produced

    def _admit(self, chunks: list[Chunk], budget: int) -> None:
        pool = self.pool
        seats = self.max_num_seqs - self.running
        while self._waiting and budget > 0 and seats > 0:
            job = self._waiting[0][1]
            total = job.prompt_tokens + job.produced
            hashes = self._hashes(job)
            hits = pool.find(hashes, (total - 1) // pool.block_size, self._publish_growing) if hashes else []
            cached = sum(count for _, count in hits) * pool.block_size
            tokens = min(total - cached, budget)
            # The whole input has to fit, not only its first chunk: vLLM's scheduler_reserve_full_isl.
            hit_blocks = cached // pool.block_size
            if -(-total // pool.block_size) - hit_blocks > pool.free_blocks - pool.unheld(hits):
                return
            heappop(self._waiting)
            pool.hold(job.lease, hits)
            pool.take(-(-(cached + tokens) // pool.block_size) - hit_blocks)
            pool.settle(job.lease, hashes, cached + tokens)
            job.computed = cached
            chunks.append(Chunk(job, tokens, cached, cached))
            if job.cached is None:
                job.cached = cached
                self.prompt_tokens += total
                self.queried_tokens += total if pool.prefix_caching else 0
                self.hit_tokens += cached
            budget -= tokens
            seats -= 1

    def _hashes(self, job: Job) -> list[int]:
        return job.hashes(self.pool.block_size) if self.pool.prefix_caching else []

    def _chunk_of_partial(self, budget: int) -> int:
        job = self.partial
        if job is None:
            return 0
        return min(job.prompt_tokens + job.produced - job.computed, budget - len(self.decoding))

    def _partial_need(self, tokens: int) -> int:
        job = self.partial
        if job is None:
            return 0
        return max(0, -(-(job.computed + tokens) // self.pool.block_size) - job.lease.blocks)

    def _make_room(self) -> tuple[list[Job], list[Job], int]:
        """Give the running requests their blocks one after the other, preempting where there are none.

        Returns the preempted, those who miss this step, and how many prompt tokens of the partial request to compute.
        """
        order = list(self.decoding.values())
        if self.partial is not None:
            order.append(self.partial)
        preempted: list[Job] = []
        at = rest = 0
        while at < len(order):
            job = order[at]
            if job.decoding:
                need = int((job.base + self.tick) % self.pool.block_size == 0)
            else:
                rest = self._chunk_of_partial(self.max_num_batched_tokens)
                need = self._partial_need(rest)
            while need > self.pool.free_blocks:
                victim = order[-1] if self.policy == "fcfs" else max(order, key=lambda j: j.rank)
                place = order.index(victim)
                del order[place]
                extra = place < at and victim.decoding and (victim.base + self.tick) % self.pool.block_size == 0
                at -= place < at
                self._preempt(victim, int(extra))
                preempted.append(victim)
                if victim is job:
                    return preempted, order[at:], 0
            self.pool.take(need)
            at += 1
        return preempted, [], rest

    def _preempt(self, job: Job, extra_blocks: int) -> None:
        """Send a running request back; ``extra_blocks`` were taken for the step that it now misses."""
        produced = self.tokens_produced(job)
        self._leave(job, extra_blocks)
        job.produced = produced
        job.computed = 0
        job.preemptions += 1
        self.preemptions += 1
        self._front -= 1
        key = job.rank if self.policy == "priority" else (self._front, 0.0, 0)
        heappush(self._waiting, (key, job))

    def _join(self, job: Job) -> None:
        """A prompt is complete: from the next step on its request decodes."""
        remaining = job.request.output_tokens - job.produced
        job.base = job.computed - self.tick
        job.decoding = True
        job.finish_tick = self.tick + remaining
        self.decoding[job.request.id] = job
        self._base_sum += job.base
        self._offsets[job.base % self.pool.block_size] += 1
        heappush(self._finishing, (job.finish_tick, job.number, job))
        if self.pool.prefix_caching and remaining:
            self._growing.update(dict.fromkeys(self._hashes(job)[job.computed // self.pool.block_size :], job))
        self.version += 1

    def _delay(self, job: Job) -> None:
        """A decoding request missed a step."""
        self._base_sum -= 1
        self._offsets[job.base % self.pool.block_size] -= 1
        job.base -= 1
        self._offsets[job.base % self.pool.block_size] += 1
        job.finish_tick += 1
        heappush(self._finishing, (job.finish_tick, job.number, job))
        self.version += 1

    def _leave(self, job: Job, extra_blocks: int = 0) -> None:
        """Take a request off its seat and free its blocks."""
        block_size = self.pool.block_size
        computed = self.tokens_in_cache(job)
        job.computed = computed
        if job.decoding:
            hashes = self._hashes(job)
            self.pool.settle(job.lease, hashes, computed)
            job.lease.blank += extra_blocks
            job.produced = self.tokens_produced(job)
            job.decoding = False
            del self.decoding[job.request.id]
            self._base_sum -= job.base
            self._offsets[job.base % block_size] -= 1
            for value in hashes[job.prompt_tokens // block_size :]:
                if self._growing.get(value) is job:
                    del self._growing[value]
            self.version += 1
        else:
            self.partial = None
        self.pool.release(job.lease)

    def _publish_growing(self, value: int) -> bool:
        """Publish what a decoding request has generated, this step's token included, if it has the block ``value``."""
        job = self._growing.get(value)
        if job is None:
            return False
        blocks = job.lease.full
        self.pool.settle(job.lease, self._hashes(job), self.tokens_in_cache(job) + 1)
        return value in self._hashes(job)[blocks : job.lease.full]

    def _blocks_for(self, steps: int) -> int:
        """Blocks that the decoding requests need for steps 2 to ``steps`` from now; the first one's are taken."""
        size = self.pool.block_size
        rounds, rest = divmod(steps - 1, size)
        first = self.tick + 1
        return rounds * len(self.decoding) + sum(self._offsets[-(first + i) % size] for i in range(rest))

    def _next_finish(self) -> int:
        heap = self._finishing
        while not heap[0][2].decoding or heap[0][2].finish_tick != heap[0][0]:
            heappop(heap)
        return heap[0][0]

"""The fast scheduler and KV cache against engines that visit every block and every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.vllm.loads import CROWDED, VERIFIED, crowded_loads, digest, play, verified_loads

from rejoule.replay.sim.hashing import block_hashes
from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.limits import Limits, Policy
from rejoule.replay.sim.scheduler import Scheduler

BLOCK = 4


@dataclass(eq=False)
class Block:
    key: tuple[object, ...] | None = None
    holders: int = 0


class NaivePool:
    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.size = block_size
        self.queue = [Block() for _ in range(num_blocks - 1)]
        self.cached: dict[tuple[object, ...], list[Block]] = {}

    def hits(self, tokens: Sequence[int], salt: str | None, limit: int) -> list[Block]:
        found = []
        for i in range(limit):
            blocks = self.cached.get((salt, *tokens[: (i + 1) * self.size]))
            if not blocks:
                break
            found.append(blocks[0])
        return found

    def touch(self, blocks: list[Block]) -> None:
        for block in blocks:
            if not block.holders:
                self.queue.remove(block)
            block.holders += 1

    def take(self) -> Block:
        block = self.queue.pop(0)
        if block.key is not None:
            self.cached[block.key].remove(block)
            if not self.cached[block.key]:
                del self.cached[block.key]
        block.key = None
        block.holders = 1
        return block

    def publish(self, block: Block, key: tuple[object, ...]) -> None:
        if block.key is None:
            block.key = key
            self.cached.setdefault(key, []).append(block)

    def free(self, blocks: list[Block]) -> None:
        for block in reversed(blocks):
            block.holders -= 1
            if not block.holders:
                self.queue.insert(0 if block.key is None else len(self.queue), block)


@dataclass(eq=False)
class NaiveJob:
    id: str
    tokens: list[int]
    """Prompt and complete answer."""
    prompt: int
    priority: int
    salt: str | None
    arrival_s: float
    computed: int = 0
    produced: int = 0
    blocks: list[Block] = field(default_factory=list)

    @property
    def known(self) -> int:
        return self.prompt + self.produced

    @property
    def rank(self) -> tuple[int, float]:
        return self.priority, self.arrival_s


@dataclass
class NaiveEngine:
    """vLLM V1's scheduling, visiting every block, request and step: slow and plain."""

    num_blocks: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    policy: str
    caching: bool = True
    threshold: int = 0

    def __post_init__(self) -> None:
        self.pool = NaivePool(self.num_blocks, self.block_size)
        self.waiting: list[NaiveJob] = []
        self.running: list[NaiveJob] = []

    def allocate(self, job: NaiveJob, new: int, hits: list[Block], whole: bool) -> bool:
        size = self.block_size
        start = job.computed + len(hits) * size
        evictable = sum(not block.holders for block in hits)
        held = len(job.blocks) + len(hits)
        need = -(-(start + new) // size) - held
        if whole and -(-job.known // size) - held + evictable > len(self.pool.queue):
            return False
        if need + evictable > len(self.pool.queue):
            return False
        self.pool.touch(hits)
        job.blocks += hits
        job.blocks += [self.pool.take() for _ in range(need)]
        if self.caching:
            for i in range((start + new) // size):
                self.pool.publish(job.blocks[i], (job.salt, *job.tokens[: (i + 1) * size]))
        return True

    def step(self) -> tuple[dict[str, int], list[str], list[str]]:
        """(tokens of each request, those preempted, those finished)."""
        budget = self.max_num_batched_tokens
        scheduled: dict[NaiveJob, int] = {}
        preempted: list[NaiveJob] = []
        at = 0
        while at < len(self.running) and budget > 0:
            job = self.running[at]
            new = min(job.known - job.computed, self.threshold or budget, budget)
            stopped = False
            while not self.allocate(job, new, [], False):
                if self.policy == "priority":
                    victim = max(self.running, key=lambda j: j.rank)
                    place = self.running.index(victim)
                    self.running.remove(victim)
                    if victim in scheduled:
                        budget += scheduled.pop(victim)
                        at -= 1
                    assert place >= 0
                else:
                    victim = self.running.pop()
                self.pool.free(victim.blocks)
                victim.blocks, victim.computed = [], 0
                self.waiting.insert(0, victim)
                preempted.append(victim)
                if victim is job:
                    stopped = True
                    break
            if stopped:
                break
            scheduled[job] = new
            budget -= new
            at += 1
        while not preempted and self.waiting and budget > 0 and len(self.running) < self.max_num_seqs:
            job = min(self.waiting, key=lambda j: j.rank) if self.policy == "priority" else self.waiting[0]
            hits = self.pool.hits(job.tokens, job.salt, (job.known - 1) // self.block_size) if self.caching else []
            cached = len(hits) * self.block_size
            new = min(job.known - cached, self.threshold or budget, budget)
            if not self.allocate(job, new, hits, True):
                break
            self.waiting.remove(job)
            self.running.append(job)
            job.computed = cached
            scheduled[job] = new
            budget -= new
        finished = []
        for job, new in scheduled.items():
            job.computed += new
            if job.computed == job.known:
                job.produced += 1
                if job.known == len(job.tokens):
                    finished.append(job)
        for job in sorted(finished, key=self.running.index):
            self.running.remove(job)
            self.pool.free(job.blocks)
        return (
            {job.id: new for job, new in scheduled.items()},
            [job.id for job in preempted],
            sorted(job.id for job in finished),
        )


@dataclass(frozen=True)
class Load:
    """Requests by the step at which they arrive, and the engine that gets them."""

    requests: list[tuple[int, SimRequest]]
    blocks: int
    seats: int
    budget: int
    policy: Policy
    caching: bool
    threshold: int
    arrivals_s: Sequence[float] | None = None
    """When they say that they arrived, if not in the order in which they came."""

    @property
    def limits(self) -> Limits:
        return Limits(self.seats, self.budget, self.policy, self.threshold)


@st.composite
def loads(draw: st.DrawFn) -> Load:
    """Few blocks, few distinct tokens and shared beginnings, so that everything that can happen does."""
    stems = draw(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=24), min_size=1, max_size=3))
    requests = []
    for i in range(draw(st.integers(1, 9))):
        stem = draw(st.sampled_from(stems))
        prompt = stem[: draw(st.integers(1, len(stem)))] + draw(st.lists(st.integers(0, 1), max_size=6))
        output = draw(st.lists(st.integers(0, 1), min_size=1, max_size=24))
        request = SimRequest(
            f"r{i}",
            prompt,
            len(output),
            output,
            draw(st.integers(0, 2)),
            draw(st.sampled_from([None, None, None, "salt"])),
        )
        requests.append((draw(st.integers(0, 20)), request))
    requests.sort(key=lambda r: r[0])
    seats = draw(st.integers(1, 6))
    largest = max(-(-(len(request.prompt_ids) + request.output_tokens) // BLOCK) for _, request in requests)
    return Load(
        requests,
        draw(st.integers(largest + 1, largest + 8)),
        seats,
        draw(st.integers(seats, 24)),
        draw(st.sampled_from(["fcfs", "priority"])),
        draw(st.booleans()),
        draw(st.sampled_from([0, 0, 1, 3, 9])),
        draw(st.none() | st.permutations(range(len(requests)))),
    )


def _said(name: str, prompt: int, output: list[int]) -> SimRequest:
    return SimRequest(name, [0] * prompt, len(output), output)


SAME_BLOCK_IN_ONE_STEP = Load(
    [
        (0, _said("a", 2, [0] * 12)),
        (0, _said("b", 1, [0])),
        (0, _said("c", 3, [0] * 17)),
        (0, _said("d", 1, [0])),
        (3, _said("e", 1, [0] * 4)),
        (3, _said("f", 2, [1, 0, 0, 0, 0])),
        (4, _said("g", 1, [0, 1, 0, 0, 0])),
    ],
    9, 3, 3, "fcfs", True, 1,
)  # fmt: skip
"""f computes a block again in the step in which g, seated after it, decodes an equal one: f's is the one to be hit."""


def _beside_growth(b: int, c: int, blocks: int) -> Load:
    requests = [(0, _said("a", 3, [0] * 2)), (1, _said("b", 4, [0] * b)), (1, _said("c", 5, [0] * c))]
    return Load(requests, blocks, 2, 5, "fcfs", True, 0)


ADMITTED_BESIDE_GROWTH = _beside_growth(3, 2, 5), _beside_growth(2, 1, 4)
"""b is admitted with a block that a, seated before it, decodes in the same step: a's, freed, is the one c hits."""
GROWN_ON_AFTER_A_PROMPT = Load(
    [(0, _said("a", 5, [0] * 11)), (0, _said("b", 1, [0] * 9)), (0, _said("c", 1, [0] * 10))], 8, 3, 4, "fcfs", True, 0
)
"""a generates only the later ones of the blocks that b and c generate after it: its copies are the ones to be hit."""
NOTHING_FOR_THE_FIRST = Load(
    [(0, _said("a", 5, [0] * 5)), (1, replace(_said("b", 2, [0] * 4), priority=-2)),
     (1, replace(_said("c", 2, [0] * 5), priority=-2))],
    5, 3, 5, "priority", True, 0,
)  # fmt: skip
"""a preempts itself, so that b and c miss a step just after they generated equal blocks: b's is the one to be hit."""


@settings(max_examples=400, deadline=None)
@example(SAME_BLOCK_IN_ONE_STEP)
@example(ADMITTED_BESIDE_GROWTH[0])
@example(ADMITTED_BESIDE_GROWTH[1])
@example(GROWN_ON_AFTER_A_PROMPT)
@example(NOTHING_FOR_THE_FIRST)
@given(loads())
def test_every_step_has_the_batch_that_vllm_would_choose(load: Load) -> None:
    """Batch composition, preemptions, free blocks and finishes equal those of the written-out loops, step by step."""
    pool = BlockPool(load.blocks, BLOCK, load.caching)
    fast = Scheduler(pool, load.limits)
    slow = NaiveEngine(load.blocks, BLOCK, load.seats, load.budget, load.policy, load.caching, load.threshold)
    todo = list(enumerate(load.requests))
    step = 0
    while todo or fast.busy:
        while todo and todo[0][1][0] <= step:
            number, (_, request) = todo.pop(0)
            arrival_s = float(load.arrivals_s[number] if load.arrivals_s else number)
            fast.add(Job(request, arrival_s, number))
            tokens = [*request.prompt_ids, *(request.output_ids if request.output_ids is not None else [])]
            slow.waiting.append(
                NaiveJob(request.id, tokens, len(request.prompt_ids), request.priority, request.cache_salt, arrival_s)
            )
        step += 1
        assert step < 2000
        plan = fast.plan()
        missed = {job.request.id for job in plan.skipped}
        batch = {name: 1 for name in fast.decoding.jobs if name not in missed}
        batch |= {chunk.job.request.id: chunk.tokens for chunk in plan.chunks}
        assert plan.decodes == len(batch) - len(plan.chunks)
        contexts = {name: base + fast.decoding.tick for name, base in fast.decoding.bases.items()}
        assert plan.decode_context == sum(contexts[name] for name in contexts.keys() - missed)
        preempted = [job.request.id for job in plan.preempted]
        _, finished = fast.commit(1)
        assert (batch, preempted, sorted(job.request.id for job in finished)) == slow.step()
        assert pool.free_blocks == len(slow.pool.queue)
        assert fast.running == len(slow.running)
    assert pool.free_blocks == pool.capacity


@pytest.mark.parametrize("ahead", [False, True], ids=["synchronous", "asynchronous"])
def test_every_step_is_the_one_that_vllm_was_seen_to_make(ahead: bool) -> None:
    """Random loads take exactly the steps that they took in vLLM, which ``tests/vllm/test_steps.py`` looks at."""
    assert digest(map(play, verified_loads(ahead))) == VERIFIED[ahead]
    assert digest(map(play, crowded_loads(ahead))) == CROWDED[ahead]


def ends(pool: BlockPool, limits: Limits, requests: Sequence[SimRequest], most: int) -> list[tuple[object, ...]]:
    """Every prompt chunk and every end, by step, of requests that are there at once, ``most`` steps in one go."""
    scheduler = Scheduler(pool, limits)
    for number, request in enumerate(requests):
        scheduler.add(Job(request, 0.0, number))
    log: list[tuple[object, ...]] = []
    while scheduler.busy:
        plan = scheduler.plan()
        log += [(scheduler.decoding.tick, chunk.job.request.id, chunk.tokens, chunk.context) for chunk in plan.chunks]
        steps = scheduler.steady_steps(most)
        scheduler.extend(steps)
        _, finished = scheduler.commit(steps)
        log += [(scheduler.decoding.tick, job.request.id, 0, job.preemptions) for job in finished]
    return log


@settings(max_examples=150, deadline=None)
@given(loads(), st.integers(2, 40), st.booleans())
def test_many_steps_at_once_are_the_same_as_one_by_one(load: Load, most: int, ahead: bool) -> None:
    """Decoding k steps in one go takes the same blocks and finishes the same requests as k single steps."""
    limits, requests = replace(load.limits, async_scheduling=ahead), [request for _, request in load.requests]
    single, several = (ends(BlockPool(load.blocks, BLOCK, load.caching), limits, requests, n) for n in (1, most))
    assert single == several


@pytest.mark.parametrize("ahead", [False, True], ids=["synchronous", "asynchronous"])
def test_many_steps_at_once_are_the_same_where_blocks_are_short(ahead: bool) -> None:
    """Nobody is admitted late after a preemption, nor without what others have generated by then."""
    for load in crowded_loads(ahead):
        requests = [
            SimRequest(call.id, call.prompt, len(call.output), call.output, call.priority, call.salt)
            for call in load.calls
        ]
        single, several = (
            ends(BlockPool(load.num_gpu_blocks, load.block_size, load.enable_prefix_caching), load.limits, requests, n)
            for n in (1, 40)
        )
        assert single == several


@pytest.mark.parametrize("steps", range(5))
@pytest.mark.parametrize("ahead", [False, True], ids=["synchronous", "asynchronous"])
def test_an_aborted_request_gives_up_its_seat_and_blocks(steps: int, ahead: bool) -> None:
    """Waiting, in the middle of its prompt, or decoding; one that is complete does when the next step is chosen."""
    pool = BlockPool(16, BLOCK)
    scheduler = Scheduler(pool, Limits(4, 8, async_scheduling=ahead))
    job = Job(SimRequest("a", list(range(12)), 3), 0.0, 0)
    scheduler.add(job)
    for _ in range(steps):
        scheduler.plan()
        scheduler.commit(1)
    scheduler.abort(job)
    if job in scheduler.seated():
        assert ahead and steps == 4
        scheduler.plan()
        scheduler.commit(1)
    assert not scheduler.busy
    assert pool.free_blocks == pool.capacity


def test_reset_is_refused_while_requests_hold_blocks() -> None:
    """As in vLLM, the prefix cache can only be reset when nothing runs; all blocks are blank then."""
    pool = BlockPool(9, BLOCK)
    scheduler = Scheduler(pool, Limits(4, 64))
    scheduler.add(Job(SimRequest("a", list(range(9)), 2), 0.0, 0))
    scheduler.plan()
    scheduler.commit(1)
    assert not pool.reset()
    scheduler.plan()
    scheduler.commit(1)
    assert pool.reset()
    assert pool.cache.find(block_hashes(list(range(9)), BLOCK), 2) == []
    for number in (1, 2, 1):
        scheduler.add(Job(SimRequest("b", [number] * 32, 1), 0.0, number))
        ((_, tokens, _, _),) = scheduler.plan().chunks
        assert tokens == 32
        scheduler.commit(1)

"""Random loads for a scheduler, and the simulated scheduler playing them by the step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

import orjson

from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.limits import Limits
from rejoule.replay.sim.scheduler import Scheduler

VOCABULARY = 8192
VERIFIED = {
    False: "0f262375518d9917c53cca00be1f307edb74f95a267224f18541df5a0a30552c",
    True: "29037fbe6562c3c525ee77b4b07f116b86a354b79009757f167067c191dc4f04",
}
"""The digest of the steps that vLLM 0.26 and 0.30 make of ``verified_loads``, without and with async scheduling."""

CROWDED = {
    False: "7380bef3166dc0e330a4dd55e20753e0eaa77f3a853e3d2fe04113a53848d135",
    True: "2cf018c8ad3e31e149037440ea90af32c03f15466138e44cbe6261658df1420f",
}
"""The same of ``crowded_loads`` and vLLM 0.30."""


def verified_loads(async_scheduling: bool) -> list[Load]:
    """200 random loads; asynchronous ones are for vLLM's scheduler alone, so their blocks may be small."""
    return [random_load(seed, 16 if async_scheduling else 32, async_scheduling) for seed in range(200)]


RARE = (20176, 20191, 20306, 21320, 21329, 21393)
"""Crowded loads in which something decides that shows in none of the others."""


def crowded_loads(async_scheduling: bool) -> list[Load]:
    """In most of them calls are preempted."""
    return [crowded_load(seed, async_scheduling) for seed in (*range(300), *RARE)]


def digest(plays: Iterable[list[dict[str, Any]]]) -> str:
    """Of every step of every load."""
    found = hashlib.sha256()
    for steps in plays:
        found.update(orjson.dumps(steps, option=orjson.OPT_SORT_KEYS))
    return found.hexdigest()


@dataclass(frozen=True)
class Planned:
    """A call: added before step ``step``, and not before ``gap`` steps after the last of ``after`` ended.

    ``arrival_s`` is when it says that it arrived, by which ranks go; ``None``: in the order in which calls are added.
    """

    id: str
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    priority: int = 0
    salt: str | None = None
    step: int = 0
    after: tuple[str, ...] = ()
    gap: int = 0
    arrival_s: float | None = None


@dataclass(frozen=True)
class Load:
    """Calls for a scheduler with these limits and blocks."""

    limits: Limits
    calls: tuple[Planned, ...]
    block_size: int
    num_gpu_blocks: int
    enable_prefix_caching: bool = True

    def message(self, engine: str, tap: str | None = None) -> dict[str, Any]:
        """What ``step_clock.py`` reads."""
        limits = asdict(self.limits) | {
            "block_size": self.block_size,
            "num_gpu_blocks": self.num_gpu_blocks,
            "enable_prefix_caching": self.enable_prefix_caching,
        }
        return {"engine": engine, "tap": tap, "limits": limits, "calls": [asdict(call) for call in self.calls]}


def random_load(seed: int, block_size: int, async_scheduling: bool) -> Load:
    """Few blocks, seats and tokens; shared beginnings, quoted answers, and lengths on the borders of blocks."""
    random = Random(seed)
    ids = range(3, random.choice((5, VOCABULARY)))

    def length(most: float) -> int:
        blocks = random.uniform(0, most)
        on_border = random.random() < 0.3
        return max(1, round(blocks) * block_size + random.choice((-1, 0, 1)) if on_border else int(blocks * block_size))

    longest_output = random.choice((1.3, 6 if block_size <= 16 else 2.5))
    stems = [tuple(random.choices(ids, k=length(4))) for _ in range(2)]
    calls: list[Planned] = []
    for i in range(random.randint(2, 11)):
        after = tuple(random.sample([c.id for c in calls], k=min(len(calls), random.choice((0, 0, 1, 1, 2)))))
        start: Sequence[int] = random.choice(stems)
        quoted = next((c for c in calls if after and c.id == after[0]), None)
        if quoted and random.random() < 0.7:
            start = quoted.prompt + quoted.output
        start = start[: random.choice((len(start), length(4)))]
        calls.append(
            Planned(
                f"r{i}",
                (*start, *random.choices(ids, k=length(1.5))),
                tuple(random.choices(ids, k=length(longest_output))),
                priority=random.choice((0, 0, 1, 2)),
                salt=random.choice((None, None, None, "salt")),
                step=0 if after else random.choice((0, 0, random.randint(0, 30))),
                after=after,
                gap=random.choice((0, 0, 1, 5)),
            )
        )
    largest = _largest(calls, block_size)
    seats = random.randint(1, 7)
    chunked = random.random() < 0.8
    longest = max(len(c.prompt) + len(c.output) for c in calls)
    budget = random.choice((max(seats, block_size), max(seats, 3 * block_size + 5), longest + seats))
    limits = Limits(
        max_num_seqs=seats,
        max_num_batched_tokens=budget if chunked else longest + random.choice((0, block_size)) + seats,
        policy=random.choice(("fcfs", "priority")),
        long_prefill_token_threshold=random.choice((0, 0, max(1, block_size // 2), block_size + 3)) if chunked else 0,
        enable_chunked_prefill=chunked,
        async_scheduling=async_scheduling,
    )
    return Load(
        limits, tuple(calls), block_size, 1 + largest + random.choice((0, 0, 1, 2, 4, 8, 40)), random.random() < 0.85
    )


def crowded_load(seed: int, async_scheduling: bool) -> Load:
    """A random load that comes nearly at once to hardly more blocks than its longest call needs.

    Its calls say that they arrived in another order. Half of them are without a prefix cache.
    """
    random = Random(seed)
    load = random_load(seed, 4, async_scheduling)
    said_s = random.sample(range(len(load.calls)), k=len(load.calls))
    calls = [
        replace(c, step=random.randint(0, 3), after=(), arrival_s=float(s))
        for c, s in zip(load.calls, said_s, strict=True)
    ]
    seats = random.randint(3, 7)
    tokens = max(load.limits.max_num_batched_tokens, seats)
    return replace(
        load,
        limits=replace(load.limits, max_num_seqs=seats, max_num_batched_tokens=tokens),
        calls=tuple(calls),
        num_gpu_blocks=1 + _largest(calls, 4) + random.randint(0, 2),
        enable_prefix_caching=random.random() < 0.5,
    )


def _largest(calls: Iterable[Planned], block_size: int) -> int:
    """Blocks of the longest of them."""
    return max(-(-(len(c.prompt) + len(c.output)) // block_size) for c in calls)


def play(load: Load) -> list[dict[str, Any]]:
    """What every step did on the simulated scheduler, in the words of ``step_clock.py``."""
    pool = BlockPool(load.num_gpu_blocks, load.block_size, load.enable_prefix_caching)
    scheduler = Scheduler(pool, load.limits)
    ended: dict[str, int] = {}
    records: list[dict[str, Any]] = []
    todo = list(load.calls)
    added = 0
    # A step's output is taken over once the next one was decided.
    lag = int(load.limits.async_scheduling)
    told: dict[int, list[str]] = {}
    while todo or scheduler.busy:
        now = len(records)
        assert now < 20_000, "no end in sight"
        for call in [c for c in todo if _is_due(c, ended, now)]:
            todo.remove(call)
            request = SimRequest(call.id, call.prompt, len(call.output), call.output, call.priority, call.salt)
            scheduler.add(Job(request, float(added) if call.arrival_s is None else call.arrival_s, added))
            added += 1
        plan = scheduler.plan()
        missed = {job.request.id for job in plan.skipped}
        decoding = scheduler.decoding
        batch = {name: (1, base + decoding.tick, 1) for name, base in decoding.bases.items() if name not in missed}
        for chunk in plan.chunks:
            known = chunk.job.prompt_tokens + chunk.job.produced
            batch[chunk.job.request.id] = chunk.tokens, chunk.context, int(chunk.context + chunk.tokens == known)
        preempted = sorted(job.request.id for job in plan.preempted)
        admitted = {c.job.request.id: c.context for c in plan.chunks if c.job not in scheduler.partial}
        _, finished = scheduler.commit(1)
        told[now + lag] = [job.request.id for job in finished]
        ended |= dict.fromkeys(told.get(now, ()), now)
        records.append(
            {
                "batch": batch,
                "cached": admitted,
                "preempted": preempted,
                "finished": sorted(told.get(now, ())),
                "running": [job.request.id for job in scheduler.seated()],
                "waiting": [job.request.id for job in scheduler.queued()],
                "free_blocks": pool.free_blocks,
            }
        )
    return records


def _is_due(call: Planned, ended: Mapping[str, int], now: int) -> bool:
    if not all(name in ended for name in call.after):
        return False
    return now >= max([call.step, *(ended[name] + 1 + call.gap for name in call.after)])

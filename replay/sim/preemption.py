"""Who goes on, and who gives up its blocks, where tokens or blocks do not suffice for all that run."""

from __future__ import annotations

from typing import NamedTuple

from rejoule.replay.sim.jobs import Job
from rejoule.replay.sim.limits import Limits
from rejoule.replay.sim.running import Running
from rejoule.replay.sim.waiting import WaitingQueue


class Squeezed(NamedTuple):
    """What became of the running: the preempted, the decoding who miss the step, and the chunk of each prompt."""

    preempted: list[Job]
    skipped: list[Job]
    granted: dict[Job, int]


def squeeze(running: Running, waiting: WaitingQueue, limits: Limits) -> Squeezed:
    """Give the running requests their tokens and blocks one after the other, preempting where blocks are short.

    The victim is the last one admitted (FCFS) or the one with the greatest rank. It goes back to ``waiting``, unless it
    was complete.
    """
    if limits.policy == "fcfs" and not running.partial:
        return Squeezed(_preempt_last(running, waiting), [], {})
    pool = running.pool
    order = running.seated()
    budget = limits.max_num_batched_tokens
    preempted: list[Job] = []
    granted: dict[Job, int] = {}
    at = 0
    stuck = False
    while at < len(order) and budget > 0 and not stuck:
        job = order[at]
        if job in running.leaving:
            at += 1
            continue
        tokens = 1 if job.decoding else min(limits.chunk(job.rest), budget)
        need = running.missing_blocks(job, tokens)
        while need > pool.free_blocks and not stuck:
            victim = order[-1] if limits.policy == "fcfs" else max(order, key=lambda j: j.rank)
            place = order.index(victim)
            del order[place]
            at -= place < at
            restored = granted.pop(victim, 0)
            budget += restored
            _preempt(victim, restored, running, waiting)
            preempted.append(victim)
            stuck = victim is job
        if not stuck:
            pool.take(need)
            granted[job] = tokens
            if not job.decoding:
                # It counts even if its request is preempted for another in this very step.
                running.settle_chunk(job, tokens)
            budget -= tokens
            at += 1
    skipped = [job for job in order if job.decoding and job not in granted]
    return Squeezed(preempted, skipped, {job: tokens for job, tokens in granted.items() if not job.decoding})


def _preempt_last(running: Running, waiting: WaitingQueue) -> list[Job]:
    """Where each takes one block or none, only the victims need be looked at."""
    pool = running.pool
    order = running.seated()
    preempted: list[Job] = []
    need = running.decoding.blocks_now()
    while need > pool.free_blocks:
        need -= pool.free_blocks
        pool.take(pool.free_blocks)
        victim = order.pop()
        need -= running.missing_blocks(victim, 1) if victim.decoding else 0
        _preempt(victim, 0, running, waiting)
        preempted.append(victim)
    pool.take(need)
    return preempted


def _preempt(job: Job, granted: int, running: Running, waiting: WaitingQueue) -> None:
    """Send a request back; blocks for ``granted`` tokens were taken for the step that it now misses."""
    job.preemptions += 1
    if running.drop(job, granted):
        job.computed = 0
        waiting.put_back(job)

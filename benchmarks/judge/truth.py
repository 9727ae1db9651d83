"""What every call truly cost in every phase: Shapley shares of each step, by sampled orders of those who take part.

A share is the mean, over random orders, of what the step costs more once this call has joined those before it (Castro,
Gómez and Tejada, *Computers & Operations Research* 36:5, 2009). No closed form, no linear cost is assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from benchmarks.judge.engine import Log
from benchmarks.judge.physics import Array, Demand, Physics


@dataclass(frozen=True)
class Truth:
    """Joules of each call in each phase, and of the time without work within the run."""

    prefill_j: Array
    decode_j: Array
    idle_j: float


def truth(log: Log, physics: Physics, orders: int, seed: int) -> Truth:
    """``orders`` of each step: one at random and its rotations, spread evenly, so that every call joins first, and
    last, as often as any other."""
    step = np.array(log.step, dtype=np.intp)
    tokens, context = np.array(log.tokens, dtype=np.float64), np.array(log.context, dtype=np.float64)
    prompt = np.array(log.prompt, dtype=np.float64)
    columns = np.stack([tokens, context, tokens * (context + tokens / 2.0), prompt])
    clock, draw = np.array(log.clock)[step], np.random.default_rng(seed)
    members = np.bincount(step, minlength=len(log.joules))[step]
    start = np.concatenate([[0], np.cumsum(np.bincount(step, minlength=len(log.joules)))])[step]
    rank = np.empty(len(step), dtype=np.intp)
    rank[np.lexsort((draw.random(len(step)), step))] = np.arange(len(step))
    rank -= start
    turn, shares = draw.random(len(log.joules))[step], np.zeros(len(step))
    for order in range(orders):
        place = np.empty(len(step), dtype=np.intp)
        place[start + (rank + ((order + turn) * members / orders).astype(np.intp)) % members] = np.arange(len(step))
        running = np.cumsum(columns[:, place], axis=1)
        joined = running - (running - columns[:, place])[:, start]
        _, joules = physics.cost(Demand(*joined), clock[place])
        first = np.arange(len(step)) == start
        shares[place] += joules - np.where(first, 0.0, np.concatenate([[0.0], joules[:-1]]))
    shares /= orders
    # Noise and leakage of a step fall on all who took part, in proportion.
    whole = np.bincount(step, shares, minlength=len(log.joules))
    shares *= np.array(log.joules)[step] / whole[step]
    calls, call, late = len(log.jobs), np.array(log.call, dtype=np.intp), prompt == 0.0
    idle = [j for j, busy, start, end in zip(log.joules, log.busy, log.start_s, log.end_s, strict=True) if not busy]
    return Truth(
        np.bincount(call, np.where(late, 0.0, shares), minlength=calls).astype(np.float64),
        np.bincount(call, np.where(late, shares, 0.0), minlength=calls).astype(np.float64),
        # The first and the last stretch lie outside the run.
        float(sum(idle[1:-1])),
    )

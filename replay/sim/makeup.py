"""What each step's joules are made of, by counterfactual steps: with less in them, and at the greatest clock.

An empty step takes what it takes to read the weights and to launch it. What decoded tokens, their contexts, prompts'
launches, prompt tokens and their contexts add to that is their Shapley value (Shapley, *A value for n-person games*,
1953): the mean, over all orders, of what the step takes more once this is added. All that is at the greatest clock,
without a cap; first comes how many joules the step would have taken there, over those that it took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rejoule.replay.sim.latency import Demand, LatencyModel, Work
from rejoule.replay.sim.power import PowerModel
from rejoule.replay.sim.records import StepRecord

Array = NDArray[np.float64]

BLOCK: Final = 4096
"""Steps evaluated at a time."""
DIGITS: Final = 6
"""Of shares and ratios: they are joules' proportions, so that what is rounded off is in another share."""
DECODING: Final = 2
"""Players of a step that only decodes: tokens, contexts."""
PLAYERS: Final = 5
"""And of one with prompts: launch, tokens, contexts."""
EMPTY: Final = Work()


def makeup(records: Sequence[StepRecord], latency: LatencyModel, power: PowerModel) -> list[tuple[float, ...]]:
    """Of each record: joules at the greatest clock over those taken, then the share of each player in them.

    What is left of 1 is the empty step's. An idle record has the first number alone.
    """
    resting = (round(power.idle_at(power.greatest_clock_mhz) / power.idle_w, DIGITS),)
    found: list[tuple[float, ...]] = [resting] * len(records)
    for players in (DECODING, PLAYERS):
        mine = [i for i, r in enumerate(records) if not r.idle and bool(r.prefill) == (players == PLAYERS)]
        for at in range(0, len(mine), BLOCK):
            block = mine[at : at + BLOCK]
            rows = _rows([records[i] for i in block], players, latency, power)
            for i, row in zip(block, rows, strict=True):
                found[i] = tuple(row)
    return found


def _rows(records: Sequence[StepRecord], players: int, latency: LatencyModel, power: PowerModel) -> list[list[float]]:
    added = np.array([_added(record, players, latency) for record in records])
    base = np.array(latency.demand(EMPTY))
    greatest = float(power.greatest_clock_mhz)
    held: dict[tuple[int, ...], Array] = {(): np.broadcast_to(base, (len(records), len(base)))}
    for size in range(1, players + 1):
        held |= {c: held[c[:-1]] + added[:, c[-1]] for c in combinations(range(players), size)}
    value = {coalition: power.joules(demands, greatest) for coalition, demands in held.items()}
    everyone = value[tuple(range(players))]
    shares = np.stack([shapley(value, player, players) for player in range(players)], axis=1)
    clocks = np.array([record.sm_clock_mhz for record in records])
    taken = power.joules(base + added.sum(axis=1), clocks)
    rows: list[list[float]] = np.round(
        np.concatenate([(everyone / taken)[:, None], shares / everyone[:, None]], axis=1), DIGITS
    ).tolist()
    return rows


def work_of(record: StepRecord) -> Work:
    """What a step of a record computed."""
    decodes = len(record.decode_ids)
    # Contexts grow evenly over equal steps: their mean stands for all.
    context = round(record.context_tokens + decodes * (record.steps - 1) / 2)
    chunks = [(new, before) for (_, new, _), before in zip(record.prefill, record.prefill_context, strict=True)]
    pairs = sum(new * (before + new / 2) for new, before in chunks)
    before = sum(before for _, before in chunks)
    return Work(len(chunks), sum(new for new, _ in chunks), pairs, before, decodes, context, len(chunks))


def shapley(value: Mapping[tuple[int, ...], Array], player: int, players: int) -> Array:
    """Of one of so many players, given what each coalition (in order) is worth."""
    found = np.zeros_like(value[()])
    for others in value:
        if player not in others:
            weight = factorial(len(others)) * factorial(players - 1 - len(others)) / factorial(players)
            found += weight * (value[tuple(sorted((*others, player)))] - value[others])
    return found


def _added(record: StepRecord, players: int, latency: LatencyModel) -> list[list[float]]:
    """What each player adds to the demand of an empty step: players × the fields of a demand."""
    work, empty = work_of(record), latency.demand(EMPTY)
    attended = _minus(latency.demand(Work(decode_context=work.decode_context)), empty)
    decoded = _minus(latency.demand(Work(decodes=work.decodes)), empty)
    if players == DECODING:
        return [decoded, attended]
    prompts = Work(prefill_pairs=work.prefill_pairs, prefill_context=work.prefill_context)
    reach = _minus(latency.demand(prompts), empty)
    rest = _minus(latency.demand(work), empty)
    rest = [r - a - d - p for r, a, d, p in zip(rest, attended, decoded, reach, strict=True)]
    # The host's part of a prompt is that it has to be launched, whatever its length.
    host = Demand._fields.index("host_s")
    launch = [value if i == host else 0.0 for i, value in enumerate(rest)]
    return [decoded, attended, launch, _minus(rest, launch), reach]


def _minus(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, others, strict=True)]

"""How much of each kind of work a run did, and the joules that it took, by node and agent.

Joules of a kind of work are known twice: at prices that both sides of a comparison share (``base_j``), and as they were
(``taken_j``). Of a modelled run the first are those at the greatest clock without a cap; of a measured one, those of
costs fitted to the runs of both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum
from typing import Final

import numpy as np

from rejoule.analysis.attribution.costs import Costs
from rejoule.analysis.attribution.joules import Laid, waiting
from rejoule.analysis.attribution.ledger import (
    DECODE,
    DECODE_ATTENDED,
    IDLE,
    PREFILL,
    PREFILL_ATTENDED,
    PROMPT_STEP,
    STEP,
    TERMS,
    Ledger,
)
from rejoule.analysis.attribution.nnls import Array
from rejoule.analysis.attribution.result import TOLERANCE
from rejoule.analysis.attribution.shares import share
from rejoule.traces.preempted import preemptions_of
from rejoule.traces.run import Run

DECODED, COMPUTED, AGAIN = range(3)
"""Kinds of work: tokens decoded, prompts computed, and what was computed again after preemptions."""
KINDS: Final = 3

Group = tuple[str, str | None]
"""A node and an agent."""

PLAYERS: Final = (DECODE, DECODE_ATTENDED, PROMPT_STEP, PREFILL, PREFILL_ATTENDED)
"""Terms that the shares of a step's makeup are of, in their order."""


@dataclass(frozen=True)
class Amounts:
    """One run. Arrays are groups × kinds × terms."""

    groups: tuple[Group, ...]
    owed: Array
    """Units of work: steps, tokens, token pairs."""
    base_j: Array
    taken_j: Array
    prompt_tokens: Array
    """Of each group: cached ones included, each call's once."""
    emitted: Array
    """Of each group: tokens decoded, and those with which calls went on after a preemption, that no step decoded."""
    beside_j: Array
    """Of each group, joules that lie in no kind of work."""
    idle: Array
    """Seconds, base joules and taken joules (columns) of waiting for tools and of other idle time (rows)."""
    beside_idle_j: float
    """Of GPUs that had no work in the run at all."""
    rest_j: float
    """Measured outside everything else."""


def known(run: Run) -> bool:
    """Whether the run's steps say themselves what they are made of."""
    return bool(run.steps) and all(step.makeup for step in run.steps or ())


@dataclass(frozen=True, slots=True)
class Prices:
    """Costs fitted to measured runs: those that both sides share, and a side's own, which may be the same."""

    shared: Costs
    own: Costs


def amounts(laid: Laid, prices: Prices | None = None) -> Amounts:
    """By fitted costs, or, without, by what the run's own steps say."""
    run, book = laid.run, laid.book
    groups = tuple(sorted({(c.node, c.agent) for c in run.calls}, key=str))
    place = {group: i for i, group in enumerate(groups)}
    own = {c.id: place[c.node, c.agent] for c in run.calls}
    # A call that the run does not list has a place of its own, after the others.
    group = np.array([*(own[name] for name in sorted(own)), len(groups)], dtype=np.intp)[book.call]
    again = _again(book)
    kinds = {DECODED: book.decode * 1.0, AGAIN: again, COMPUTED: ~book.decode - again}
    base, taken, beside, idle = _modelled(run, book) if prices is None else _fitted(laid, prices)

    def summed(values: Array) -> Array:
        found = np.zeros((len(groups) + 1, KINDS, len(TERMS)))
        for kind, part in kinds.items():
            for term, column in enumerate(values.T):
                found[:, kind, term] = np.bincount(group, column * part, minlength=len(groups) + 1)
        return found[:-1]

    part = waiting(book, run.tools)
    rows = np.array([[fsum(column * w) for column in idle.T] for w in (part, np.where(book.idle, 1.0 - part, 0.0))])
    prompts, emitted = np.zeros(len(groups)), summed(book.owed)[:, DECODED, DECODE]
    resumed = _resumed(run)
    for call in run.calls:
        prompts[own[call.id]] += call.prompt_tokens or 0
        emitted[own[call.id]] += resumed.get(call.id, 0)
    besides = np.bincount(group, beside, minlength=len(groups) + 1)[:-1].astype(np.float64)
    spent, total_j = summed(taken), laid.whole_j
    rest_j = total_j - fsum((float(spent.sum()), float(besides.sum()), float(rows[:, 2].sum()), laid.idle_gpus_j))
    if abs(rest_j) <= TOLERANCE * abs(total_j):
        rest_j = 0.0
    owed = summed(book.owed)
    return Amounts(groups, owed, summed(base), spent, prompts, emitted, besides, rows, laid.idle_gpus_j, rest_j)


def _again(book: Ledger) -> Array:
    """The share of each entry that was computed again: all, where only the token is new that the call goes on with."""
    new = book.owed[:, PREFILL] * (1.0 - book.again)
    return np.where((book.again > 0.0) & (new < 1.5), 1.0, book.again)


def _resumed(run: Run) -> dict[str, int]:
    """Of calls that were preempted, the tokens that they did not decode: each time they went on, it was with one."""
    gone = preemptions_of(run.steps or ())
    left = {call.id: max(0, (call.output_tokens or 0) - 1) for call in run.calls if call.id in gone}
    for step in run.steps or () if gone else ():
        for name, tokens in step.decode:
            if name in left:
                left[name] -= tokens
    return {name: min(gone[name], max(0, tokens)) for name, tokens in left.items()}


_Parts = tuple[Array, Array, Array, Array]
"""Base and taken joules of entries (E × terms), joules of entries that are in neither, and of idle stretches seconds,
base and taken joules (S × 3)."""


def _modelled(run: Run, book: Ledger) -> _Parts:
    steps = run.steps or ()
    taken_j = np.array([step.energy_j or 0.0 for step in steps])
    free_j = taken_j * np.array([step.makeup[0] for step in steps])
    shares = np.zeros((len(steps), len(TERMS)))
    for i, step in enumerate(steps):
        for term, value in zip(PLAYERS, step.makeup[1:], strict=False):
            shares[i, term] = value
    shares[:, STEP] = 1.0 - shares.sum(axis=1)
    features = book.features
    # What nobody in the step has work of goes with the step itself.
    there = features > 0.0
    shares[:, STEP] += np.where(there, 0.0, shares)[:, STEP + 1 :].sum(axis=1)
    shares = np.where(there, shares, 0.0)
    portion = book.owed / np.where(there, features, 1.0)[book.at]
    parts = portion * shares[book.at]
    idle = book.idle
    stretches = np.stack([np.where(idle, v, 0.0) for v in (book.duration_s, free_j, taken_j)], axis=1)
    return parts * free_j[book.at, None], parts * taken_j[book.at, None], np.zeros(len(book.at)), stretches


def _fitted(laid: Laid, prices: Prices) -> _Parts:
    book, own = laid.book, prices.own
    shares = share(book, laid.bins, own)
    owed = book.owed * own.vector
    whole = owed.sum(axis=1)
    told = whole > 0.0
    # As the attribution has it: each entry is scaled to what was measured in its bins.
    taken = owed * np.where(told, shares.entries_j / np.where(told, whole, 1.0), 0.0)[:, None]
    beside = np.where(told, 0.0, shares.entries_j)
    idle = book.idle
    columns = (book.duration_s, book.features[:, IDLE] * prices.shared.idle_w, shares.stretches_j)
    stretches = np.stack([np.where(idle, column, 0.0) for column in columns], axis=1)
    return book.owed * prices.shared.vector, taken, beside, stretches

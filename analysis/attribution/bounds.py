"""What would be saved without a group of calls, and what it would cost alone, by the fitted costs.

In each step that a group takes part in, its joules lie between what it adds to the others' (``E(S) − E(S∖G)``) and what
the step would cost with it alone (``E(G)``), since whatever it shares with the others is counted in neither, or once
whole. The steps stay as they were: nothing is said of other batches, times and clocks that would come of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rejoule.analysis.attribution.costs import Costs
from rejoule.analysis.attribution.ledger import DECODE, EXPERTS, PREFILL, PROMPT_STEP, STEP, Ledger
from rejoule.analysis.attribution.nnls import Array, Index
from rejoule.analysis.attribution.shares import Shares


@dataclass(frozen=True, slots=True)
class Bounds:
    """Joules of a group, around those that are attributed to it."""

    saved_j: float
    """Its marginal cost: what the same steps would have taken less without it."""
    alone_j: float
    """What the same steps would have taken with it alone."""


def bounds(group: Index, count: int, book: Ledger, shares: Shares, costs: Costs) -> list[Bounds]:
    """Of ``count`` groups of entries, given the group of each; every step scaled to what was measured in it."""
    theta, steps = costs.vector, len(book.idle)
    modelled = book.features @ theta
    scale = np.where(modelled > 0.0, shares.stretches_j / np.where(modelled > 0.0, modelled, 1.0), 0.0)
    cells, place = np.unique(group * steps + book.at, return_inverse=True)
    at, mine = (cells % steps).astype(np.intp), (cells // steps).astype(np.intp)
    own = book.owed @ np.where(np.isin(np.arange(len(theta)), (STEP, PROMPT_STEP, EXPERTS)), 0.0, theta)
    additive = np.bincount(place, own, minlength=len(cells))
    prompts = np.bincount(place, book.owed[:, PROMPT_STEP] > 0.0, minlength=len(cells)) > 0
    fixed = theta[STEP] * book.features[at, STEP]
    launch = theta[PROMPT_STEP] * book.features[at, PROMPT_STEP] * prompts
    lone = np.bincount(at, minlength=steps)[at] == 1
    lone_prompts = np.bincount(at, prompts, minlength=steps)[at] == 1
    saved = additive + fixed * lone + launch * lone_prompts
    alone = additive + fixed + launch
    if costs.asleep:
        count_of = np.where(book.features[:, STEP] > 0.0, book.features[:, STEP], 1.0)
        tokens = (book.owed[:, DECODE] + book.owed[:, PREFILL]) / count_of[book.at]
        own_tokens = np.bincount(place, tokens, minlength=len(cells))
        all_tokens = np.bincount(book.at, tokens, minlength=steps)[at]
        experts = theta[EXPERTS] * book.features[at, STEP]
        saved = saved + experts * (costs.asleep ** (all_tokens - own_tokens) - costs.asleep**all_tokens)
        alone = alone + experts * (1.0 - costs.asleep**own_tokens)
    sums = [_summed(values * scale[at], mine, count) for values in (saved, alone)]
    return [Bounds(low, high) for low, high in zip(*sums, strict=True)]


def _summed(values: Array, place: Index, count: int) -> list[float]:
    found: list[float] = np.bincount(place, values, minlength=count)[:count].tolist()
    return found

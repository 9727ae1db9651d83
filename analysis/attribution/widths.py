"""How far shares can be trusted: half-widths of 95 % intervals, and what of them goes together."""

from __future__ import annotations

from typing import Final

import numpy as np

from rejoule.analysis.attribution.bins import Bins
from rejoule.analysis.attribution.costs import Costs
from rejoule.analysis.attribution.ledger import IDLE, Ledger
from rejoule.analysis.attribution.nnls import Array, Index
from rejoule.analysis.attribution.quantile import NORMAL
from rejoule.analysis.attribution.shares import Shares

SIDE_BY_SIDE_S: Final = 0.1
"""Joules of work that lies within so long could have been given to each other."""
FORM: Final = 0.0075
SINGLE: Final = 0.015
PHASES: Final = 0.025
"""What the form of the costs may miss of joules that are shared, relative, as a standard deviation, without any bin or
clock showing it: between nodes, single calls, and phases. Of the size that ``python -m benchmarks.judge`` finds on
engines of other forms."""

FLAT: Final = 0.0025
"""By how much idle power may differ between stretches, relative, as a standard deviation."""

LEAKS: Final = 1.25
"""How much more of a bin's error may be idle's than its share: where work begins and ends, sensors blur."""

LEAST_J: Final = 1e-150
"""Anything less is nothing."""

EXACT: Final = 1e-6
"""Misfit below which the costs are those of the engine."""


def half_widths(
    group: Index, count: int, book: Ledger, bins: Bins, shares: Shares, costs: Costs, form: float = FORM
) -> Array:
    """Of the joules of ``count`` groups of entries: from the coefficients, the bins' own error, and the model's form.

    The coefficients' part is ``√(J Σ Jᵀ)``. What the costs miss of a bin may be the sensor's error, which a group has a
    share of. How far the form of the costs is off, the clock tells:
    where steps took longer or shorter than their work should, by ``r`` seconds, the joules of that time may have been
    given to the wrong ones of those who took part. And ``form`` of what is shared may be, though nothing
    shows it; and what a late counter did not tell of the run's end is missing from whoever worked then.
    """
    gradient = _gradient(group, count, shares)
    spread = np.sqrt(_variance(gradient, costs))
    leaked = np.zeros(count)
    if bins.read:
        place = shares.bin_of[book.at]
        leaked = np.sqrt(_squares(group, place, shares.entries_j * _missed(book, bins, costs)[place], count))
    untold = np.bincount(
        group,
        np.where(bins.told[shares.bin_of[book.at]], 0.0, book.owed @ costs.vector - shares.entries_j),
        minlength=count,
    )
    unseen = form * _shared(group, count, book, shares) if costs.misfit > EXACT else 0.0
    found: Array = NORMAL * np.sqrt(
        spread**2 + leaked**2 + unseen**2 + untold**2 + _form(group, count, book, shares, costs)
    )
    return found


def _missed(book: Ledger, bins: Bins, costs: Costs) -> Array:
    """How much of each bin's energy may be the sensor's error, relative, as a standard deviation: what the costs miss
    of all bins, or of this one if that is more, since sensors blur, and miss, where power steps within a bin."""
    left_j = np.abs(bins.energy_j - bins.sums(book.features) @ costs.vector)
    there = bins.told & (bins.energy_j > LEAST_J)
    own = np.where(there, np.minimum(1.0, left_j / np.where(there, bins.energy_j, 1.0)), 0.0)
    return np.maximum(costs.misfit, own)


def _squares(group: Index, place: Index, values: Array, count: int) -> Array:
    """Values added up by group and place, squared, and added up by group."""
    cells, at = np.unique(group * (int(place.max(initial=0)) + 1) + place, return_inverse=True)
    summed = np.bincount(at, values, minlength=len(cells))
    return np.bincount(cells // (int(place.max(initial=0)) + 1), summed**2, minlength=count).astype(np.float64)


def _form(group: Index, count: int, book: Ledger, shares: Shares, costs: Costs) -> Array:
    """Square of the joules that may be with the wrong group, as the clock tells."""
    if not costs.pace_s or not len(group):
        return np.zeros(count)
    late_s = np.where(book.idle, 0.0, book.duration_s - book.features[:, :IDLE] @ np.array(costs.pace_s))
    place = (book.start_s / SIDE_BY_SIDE_S).astype(np.intp)
    late_j = costs.power_w * np.bincount(place, late_s)
    whole_j = np.bincount(place, np.where(book.idle, 0.0, shares.stretches_j))
    # No more can be with the wrong ones than there is.
    bounded_j = np.clip(late_j, -whole_j, whole_j)
    factor = np.where(whole_j > LEAST_J, bounded_j / np.where(whole_j > LEAST_J, whole_j, 1.0), 0.0)
    missed_j = shares.entries_j * factor[place[book.at]]
    together = np.bincount(group, missed_j, minlength=count)
    found: Array = together**2 + _squares(group, place[book.at], missed_j, count)
    return found


def _shared(group: Index, count: int, book: Ledger, shares: Shares) -> Array:
    """Joules of each group that others could have been given: ``E_g (1 − E_g/E)`` of each ``SIDE_BY_SIDE_S``."""
    place = (book.start_s / SIDE_BY_SIDE_S).astype(np.intp)
    size = int(place.max(initial=0)) + 1
    whole = np.bincount(place, shares.stretches_j, minlength=size)
    cells, at = np.unique(group * size + place[book.at], return_inverse=True)
    mine = np.bincount(at, shares.entries_j, minlength=len(cells))
    total = whole[cells % size]
    others = np.clip(1.0 - mine / np.where(total > 0.0, total, 1.0), 0.0, 1.0)
    return np.bincount(cells // size, mine * others, minlength=count).astype(np.float64)


def idle_half_width(shares: Shares, costs: Costs, bins: Bins, book: Ledger) -> float:
    """Of the idle joules; none where idle stretches have energy of their own."""
    if not bins.read:
        return 0.0
    spread = float(np.sqrt(_variance(shares.idle_slopes.sum(axis=0)[None, :], costs)[0]))
    idle = np.bincount(shares.bin_of, np.where(book.idle, shares.stretches_j, 0.0), minlength=len(bins.energy_j))
    leaked = LEAKS * np.sqrt(((idle * _missed(book, bins, costs)) ** 2).sum())
    owed = book.features[:, IDLE] * costs.idle_w
    untold = np.where(book.idle & ~bins.told[shares.bin_of], owed - shares.stretches_j, 0.0).sum()
    return float(NORMAL * np.sqrt(spread**2 + leaked**2 + untold**2 + (FLAT * idle.sum()) ** 2))


def covariance_j2(group: Index, count: int, shares: Shares, costs: Costs) -> Array:
    """Of the groups' joules, as far as it comes of the coefficients: ``J Σ Jᵀ``."""
    if not costs.covariance:
        return np.zeros((count, count))
    gradient = _gradient(group, count, shares)
    found: Array = gradient @ np.array(costs.covariance) @ gradient.T
    return found


def _gradient(group: Index, count: int, shares: Shares) -> Array:
    found: Array = np.stack([np.bincount(group, column, minlength=count) for column in shares.slopes.T], axis=1)
    return found


def _variance(gradient: Array, costs: Costs) -> Array:
    if not costs.covariance:
        return np.zeros(len(gradient))
    found: Array = np.clip(np.einsum("gi,ij,gj->g", gradient, np.array(costs.covariance), gradient), 0.0, None)
    return found

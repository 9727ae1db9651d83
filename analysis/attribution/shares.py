"""Every bin's joules shared among those who took part, and how far the shares can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from rejoule.analysis.attribution.bins import Bins
from rejoule.analysis.attribution.costs import SHORTEST_S, Costs
from rejoule.analysis.attribution.ledger import TERMS, Index, Ledger
from rejoule.analysis.attribution.nnls import Array

Z: Final = 1.96
"""Half-width of a normal distribution's 95 % interval in standard deviations."""

LEAST: Final = 1e-9
"""Part of a bin's energy that the costs have to explain for them to share it."""


@dataclass(frozen=True)
class Shares:
    """Joules of every entry of the ledger and of every stretch, with how they follow the coefficients."""

    entries_j: Array
    stretches_j: Array
    slopes: Array
    """E × terms: derivative of an entry's joules by each coefficient."""
    idle_slopes: Array
    """S × terms: derivative of a stretch's joules, where it is idle."""
    modelled_j: float
    """What the costs say of the busy stretches."""
    bin_of: Index
    """The bin that holds the middle of each stretch."""


def share(book: Ledger, bins: Bins, costs: Costs) -> Shares:
    """Scale every bin's modelled joules to its measured ones, and share each stretch by what its entries owe.

    With owed joules ``o = f·θ`` of an entry, ``Ê = X·θ`` of a bin and its measured ``E``, the entry gets ``o E/Ê``,
    whose derivative by θ is ``f E/Ê − o X E/Ê²``. A bin for which the costs say nothing is shared by time and equally.
    """
    size = len(book.idle)
    theta = costs.vector
    columns = bins.sums(book.features)
    stretches = book.features @ theta
    modelled = columns @ theta
    told = modelled > np.maximum(LEAST * bins.energy_j, 1e-150)
    scale = np.where(told, bins.energy_j / np.where(told, modelled, 1.0), 0.0)
    per_stretch = bins.means(scale, size)
    untold = np.where(told, 0.0, bins.energy_j)
    length = bins.sums(book.duration_s)
    long = length > SHORTEST_S
    weight = np.where(long, untold / np.where(long, length, 1.0), 0.0)
    extra = bins.means(weight, size) * book.duration_s
    # Bins without any length still have to be given away.
    members = bins.sums(np.ones(size))
    extra += bins.means(np.where(long, 0.0, untold / np.where(members > 0.0, members, 1.0)), size)
    owed = book.owed @ theta
    entries = owed * per_stretch[book.at] + book.equal * extra[book.at]
    energy = stretches * per_stretch + extra
    silent = (stretches <= 0.0)[book.at]
    entries = np.where(silent, book.equal * energy[book.at], entries)
    curve = bins.means(np.where(told, scale / np.where(told, modelled, 1.0), 0.0)[:, None] * columns, size)
    slopes = np.where(silent[:, None], 0.0, book.owed * per_stretch[book.at, None] - owed[:, None] * curve[book.at])
    idle = np.where(book.idle[:, None], book.features * per_stretch[:, None] - stretches[:, None] * curve, 0.0)
    bin_of = np.zeros(size, dtype=np.intp)
    # The last of equal shares wins; only entries of one stretch have to agree.
    order = np.argsort(bins.share, kind="stable")
    bin_of[bins.stretch[order]] = bins.bin[order]
    return Shares(entries, energy, slopes, idle, float(stretches[~book.idle].sum()), bin_of)


def half_widths(group: Index, count: int, book: Ledger, shares: Shares, costs: Costs, read: bool) -> Array:
    """Of the joules of ``count`` groups of entries: from the coefficients, the misfit, and the bins' own error.

    The coefficients' part is ``√(J Σ Jᵀ)``. The misfit ``m`` is what they miss of a bin: it can only have moved joules
    between a group and the others in its bin, so it counts for ``m E_g (1 − E_g/E)`` of each bin, summed, since nothing
    says that it averages out. Where bins are ``read`` from a counter that ticks late, ``m`` bounds their own error,
    too: what one has too much its neighbour lacks, so that is ``m √(Σ E_g²)``.
    """
    gradient = np.zeros((count, len(TERMS)))
    np.add.at(gradient, group, shares.slopes)
    spread = _coefficients(gradient, costs)
    bins = int(shares.bin_of.max()) + 1 if len(shares.bin_of) else 1
    whole = np.bincount(shares.bin_of, shares.stretches_j, minlength=bins)
    cells, place = np.unique(group * bins + shares.bin_of[book.at], return_inverse=True)
    mine = np.bincount(place, shares.entries_j, minlength=len(cells))
    total = whole[cells % bins]
    moved = mine * np.clip(1.0 - mine / np.where(total > 0.0, total, 1.0), 0.0, 1.0)
    missed = costs.misfit * np.bincount(cells // bins, moved, minlength=count)
    leaked = costs.misfit * np.sqrt(np.bincount(cells // bins, mine**2, minlength=count)) if read else 0.0
    found: Array = Z * np.sqrt(spread**2 + missed**2 + leaked**2)
    return found


def idle_half_width(shares: Shares, costs: Costs, bins: Bins, book: Ledger) -> float:
    """Of the idle joules; none where idle stretches have energy of their own."""
    if bins.energy_j.shape == book.idle.shape:
        return 0.0
    spread = float(_coefficients(shares.idle_slopes.sum(axis=0)[None, :], costs)[0])
    whole = np.bincount(shares.bin_of, shares.stretches_j, minlength=len(bins.energy_j))
    idle = np.bincount(shares.bin_of, np.where(book.idle, shares.stretches_j, 0.0), minlength=len(bins.energy_j))
    moved = idle * np.clip(1.0 - idle / np.where(whole > 0.0, whole, 1.0), 0.0, 1.0)
    missed, leaked = costs.misfit * moved.sum(), costs.misfit * np.sqrt((idle**2).sum())
    return float(Z * np.sqrt(spread**2 + missed**2 + leaked**2))


def _coefficients(gradient: Array, costs: Costs) -> Array:
    """Standard deviation of values with these derivatives by the coefficients."""
    if not costs.covariance:
        return np.zeros(len(gradient))
    covariance = np.array(costs.covariance)
    variance = np.einsum("gi,ij,gj->g", gradient, covariance, gradient)
    found: Array = np.sqrt(np.clip(variance, 0.0, None))
    return found

"""Every bin's joules shared among those who took part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from rejoule.analysis.attribution.bins import Bins
from rejoule.analysis.attribution.costs import SHORTEST_S, Costs
from rejoule.analysis.attribution.ledger import Ledger
from rejoule.analysis.attribution.nnls import Array, Index

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

"""Stretches of time whose energy is known, and what of the run's work lies in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rejoule.analysis.attribution.ledger import Ledger
from rejoule.analysis.attribution.nnls import Array, Index
from rejoule.traces.run import Energy, Reading

BIN_S: Final = 0.5
"""Least length of a bin of readings. The counter ticks every 100 ms and lags by about as much (Yang et al., *SC24*); in
longer bins the energy at the edges weighs less, in much longer ones there are too few to tell the costs apart."""

STEPS_S: Final = 0.25
"""Length of the bins of engine steps with energy of their own: what lies across their edges is little of it."""

LAGS_S: Final = tuple(0.1 * i for i in range(13))
FINE_S: Final = tuple(0.02 * i for i in range(-4, 5))
"""How late a counter may tell; the one at which the costs explain most is taken, coarsely and then finely."""


@dataclass(frozen=True)
class Bins:
    """B bins with their energy; stretch ``stretch[i]`` has share ``share[i]`` of its time in bin ``bin[i]``."""

    energy_j: Array
    duration_s: Array
    stretch: Index
    bin: Index
    share: Array
    told: NDArray[np.bool_]
    """Whether its energy was read, rather than left over."""
    read: bool = False
    """Whether a sensor read it, rather than the engine itself."""

    def sums(self, by_stretch: Array) -> Array:
        """Values of stretches (S, or S × n) added up by bin."""
        parts = self.share.reshape(-1, *[1] * (by_stretch.ndim - 1)) * by_stretch[self.stretch]
        return _added(parts, self.bin, len(self.energy_j))

    def means(self, by_bin: Array, stretches: int) -> Array:
        """Values of bins (B, or B × n) averaged over each stretch by time."""
        parts = self.share.reshape(-1, *[1] * (by_bin.ndim - 1)) * by_bin[self.bin]
        return _added(parts, self.stretch, stretches)


def of_stretches(book: Ledger, energy_j: Array) -> Bins:
    """Stretches with energy of their own, those with work together that begin in the same ``STEPS_S``.

    An asynchronous engine's GPU works for a step while the one before it still counts, so joules lie where the time is,
    and the energy and the work of single steps do not go together.
    """
    alone = np.arange(len(energy_j), dtype=np.intp)
    slot = np.where(book.idle, -1.0 - alone, np.floor(book.start_s / STEPS_S))
    _, place = np.unique(slot, return_inverse=True)
    bin_of, count = place.astype(np.intp), int(place.max(initial=-1)) + 1
    summed, duration_s = (_added(values, bin_of, count) for values in (energy_j, book.duration_s))
    return Bins(summed, duration_s, alone, bin_of, np.ones(len(energy_j)), np.ones(count, dtype=bool))


def coarse(by_bin: Array, start_s: Array, least_s: float = STEPS_S) -> Array:
    """Values of bins (B, or B × n), given where each starts, added up over those that start in the same ``least_s``."""
    _, place = np.unique(np.floor(start_s / least_s), return_inverse=True)
    return _added(by_bin, place.astype(np.intp), int(place.max()) + 1 if len(place) else 0)


def _added(parts: Array, place: Index, count: int) -> Array:
    """Rows of ``parts`` added up by place."""
    if parts.ndim == 1:
        return np.bincount(place, parts, minlength=count).astype(np.float64)
    return np.stack([np.bincount(place, column, minlength=count) for column in parts.T], axis=1).astype(np.float64)


def of_readings(
    book: Ledger, readings: Sequence[Reading], lag_s: float = 0.0, before_w: float = 0.0, least_s: float = BIN_S
) -> Bins:
    """Readings merged to bins of at least ``least_s``; stretches that straddle bins are split by time.

    A counter that tells late, by ``lag_s``, has its bins moved as much earlier. What it told first is then of the time
    before the run, when the GPUs drew ``before_w``, and of the run's last moment it told nothing: that is a bin of its
    own with what is left over.
    """
    edges, energy_j = merged(readings, least_s)
    told = np.ones(len(energy_j), dtype=bool)
    if lag_s > 0.0:
        edges, energy_j, told = _earlier(edges, energy_j, lag_s, before_w)
    start_s, end_s = book.start_s, book.end_s
    first = np.searchsorted(edges[1:-1], start_s, side="right")
    last = np.searchsorted(edges[1:-1], end_s, side="left")
    last = np.maximum(first, last)
    count = last - first + 1
    stretch = np.repeat(np.arange(len(start_s), dtype=np.intp), count)
    offset = np.arange(len(stretch)) - np.repeat(np.cumsum(count) - count, count)
    place = (first[stretch] + offset).astype(np.intp)
    inside = np.minimum(end_s[stretch], edges[place + 1]) - np.maximum(start_s[stretch], edges[place])
    duration = book.duration_s[stretch]
    # A stretch of no length lies whole in the bin of its start; what reaches beyond the readings counts for the last.
    share = np.where(count[stretch] == 1, 1.0, np.clip(inside, 0.0, None) / np.where(duration > 0.0, duration, 1.0))
    whole = np.bincount(stretch, share, minlength=len(start_s))
    share = share / np.where(whole > 0.0, whole, 1.0)[stretch]
    return Bins(energy_j, np.diff(edges), stretch, place, share, told, read=True)


def _earlier(edges: Array, energy_j: Array, lag_s: float, before_w: float) -> tuple[Array, Array, NDArray[np.bool_]]:
    start_s, end_s, moved = edges[0], edges[-1], edges - lag_s
    first = int(np.searchsorted(moved, start_s, side="right")) - 1
    if first + 1 >= len(moved):
        return edges, energy_j, np.zeros(len(energy_j), dtype=bool)
    kept = energy_j[first:].copy()
    kept[0] = max(0.0, kept[0] - before_w * (start_s - moved[first]))
    moved_edges = np.concatenate([[start_s], moved[first + 1 :], [end_s]])
    left_j = max(0.0, float(energy_j.sum() - kept.sum()))
    return moved_edges, np.append(kept, left_j), np.append(np.ones(len(kept), dtype=bool), False)


def merged(readings: Sequence[Reading], least_s: float) -> tuple[Array, Array]:
    """Edges in seconds and joules between them; a short rest joins the last bin."""
    edges, energies = [readings[0].start_s], [0.0]
    for i, reading in enumerate(readings):
        energies[-1] += reading.energy_j
        long = reading.end_s - edges[-1] >= least_s * (1.0 - 1e-9)
        enough = i + 1 == len(readings) or readings[-1].end_s - reading.end_s >= least_s * (1.0 - 1e-9)
        if i + 1 == len(readings) or (long and enough):
            edges.append(reading.end_s)
            energies.append(0.0)
    return np.array(edges, dtype=np.float64), np.array(energies[:-1], dtype=np.float64)


def spread(book: Ledger, known_j: Sequence[float | None], energy: Energy, total: float) -> Array:
    """Joules of every stretch; those without energy of their own share what the others leave, by time."""
    joules = np.array([np.nan if j is None else j for j in known_j], dtype=np.float64)
    duration, idle = book.duration_s, book.idle
    missing = np.isnan(joules)
    if missing.all() and energy.idle_j is not None and duration[idle].sum() > 0.0:
        idle_j = min(energy.idle_j, total)
        joules[idle] = _by_time(duration[idle], idle_j)
        joules[~idle] = _by_time(duration[~idle], total - idle_j)
        return joules
    joules[missing] = _by_time(duration[missing], max(0.0, total - float(joules[~missing].sum())))
    return joules


def _by_time(duration: Array, joules: float) -> Array:
    whole = duration.sum()
    return duration / whole * joules if whole > 0.0 else np.zeros_like(duration)

"""GPUs that were measured with the others and had no work: their joules are a line of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from rejoule.analysis.attribution.nnls import Array
from rejoule.traces.run import Conditions, Reading, Run

STEADY: Final = 1.15
"""The most over the least power of a second of a GPU without work. An idle H200 beside a busy one drew 80 to 83 W
(docs/weights.md)."""

HALF: Final = 0.5
"""The most that it drew in a second, of what the busiest did: GPUs that share a model work alike."""


def working(run: Run) -> tuple[Run, float]:
    """The run as its working GPUs alone would have had it, and the joules of the others.

    They are told apart by what each GPU drew, where the readings say so; else all are taken to have worked.
    """
    readings = run.readings or ()
    if run.energy.gpu_j is None or len({len(r.gpus_j) for r in readings}) != 1 or len(readings[0].gpus_j) < 2:
        return run, 0.0
    joules = np.array([r.gpus_j for r in readings])
    powers = _by_second(readings, joules)
    most, least = powers.max(axis=0), powers.min(axis=0)
    idle = (most <= STEADY * least) & (most < HALF * most.max())
    theirs = joules[:, idle].sum(axis=1)
    whole_j, length_s = float(theirs.sum()), readings[-1].end_s - readings[0].start_s
    if whole_j <= 0.0 or length_s <= 0.0:
        return run, 0.0
    rest = tuple(replace(r, energy_j=r.energy_j - float(j)) for r, j in zip(readings, theirs, strict=True))
    around = None if run.conditions is None else _less(run.conditions, whole_j / length_s)
    energy = replace(run.energy, gpu_j=run.energy.gpu_j - whole_j)
    return replace(run, readings=rest, energy=energy, conditions=around), whole_j


def _less(around: Conditions, watts: float) -> Conditions:
    loaded_w, after_w = (None if w is None else w - watts for w in (around.loaded_w, around.after_w))
    return replace(around, loaded_w=loaded_w, after_w=after_w)


def _by_second(readings: Sequence[Reading], joules: Array) -> Array:
    """Watts of each GPU over each second of the run, the last one longer."""
    edges = np.array([readings[0].start_s, *(r.end_s for r in readings)])
    counted = np.vstack([np.zeros(joules.shape[1]), np.cumsum(joules, axis=0)])
    seconds = np.linspace(edges[0], edges[-1], max(1, int(edges[-1] - edges[0])) + 1)
    at = np.stack([np.interp(seconds, edges, column) for column in counted.T], axis=1)
    found: Array = np.diff(at, axis=0) / np.diff(seconds)[:, None]
    return found

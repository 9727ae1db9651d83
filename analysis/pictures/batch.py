"""How many calls the engine worked on, over a run's time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from rejoule.analysis.summary.units import rounded
from rejoule.traces.run import Run

MOST_POINTS: Final = 1500


@dataclass(frozen=True, slots=True)
class BatchLine:
    """Means between points in time; the last value stands twice, to close the last stretch."""

    times_s: list[float]
    calls: list[float]
    steps: int
    """Engine steps of the whole run."""


def batch_line(run: Run) -> BatchLine | None:
    """``None`` where the engine was not watched. Where there are too many steps, over equal stretches of time."""
    steps = [s for s in run.steps or () if s.end_s > s.start_s]
    if not steps:
        return None
    edges = np.array([steps[0].start_s, *(s.end_s for s in steps)], dtype=np.float64)
    sizes = np.array([len({*(p[0] for p in s.prefill), *(d[0] for d in s.decode)}) for s in steps], dtype=np.float64)
    points = np.linspace(edges[0], edges[-1], MOST_POINTS) if len(edges) > MOST_POINTS else edges
    summed = np.interp(points, edges, np.concatenate([[0.0], np.cumsum(sizes * np.diff(edges))]))
    means = [float(v) for v in np.diff(summed) / np.diff(points)]
    return BatchLine(
        [rounded(float(t), 6) for t in points],
        [rounded(v, 4) for v in (*means, means[-1])],
        sum(s.steps for s in steps),
    )

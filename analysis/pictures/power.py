"""Power, clock and cap of one run over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from rejoule.analysis.summary.units import rounded
from rejoule.traces.run import Run

MOST_POINTS: Final = 1500
"""Points of a line at most; the page must stay light."""
STEPS_S: Final = 0.1
"""Points of a line of steps are so far apart at least: a step's joules are those of its work, and the GPU begins with
that while the step before still counts."""

Line = list[float | None]


class Stretch(NamedTuple):
    """Of a reading, or of an engine step; ``bound`` is the share of it in which the cap held the clock down."""

    start_s: float
    end_s: float
    energy_j: float
    clock_mhz: float | None
    bound: float | None
    hbm_w: float | None


@dataclass(frozen=True, slots=True)
class PowerLine:
    """Means between points in time; the last value stands twice, to close the last stretch."""

    times_s: list[float]
    watts: list[float]
    clock_mhz: Line
    bound: Line
    """Share of the time in which the cap held the clock down."""
    hbm_w: Line


def power_line(run: Run) -> PowerLine | None:
    """By the energy counter's readings, or else the engine's steps; ``None`` where neither has energy.

    Where there are too many, over equal stretches of time with the same energy.
    """
    found = stretches(run)
    if not found:
        return None
    edges = np.array([found[0].start_s, *(s.end_s for s in found)], dtype=np.float64)
    most = MOST_POINTS if run.readings else min(MOST_POINTS, 2 + int((edges[-1] - edges[0]) / STEPS_S))
    points = np.linspace(edges[0], edges[-1], most) if len(edges) > most else edges

    def line(values: Sequence[float | None]) -> Line:
        known = np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        if np.isnan(known).all():
            return []
        seconds = np.diff(edges) * ~np.isnan(known)
        spent, summed = (_between(points, edges, part) for part in (seconds, seconds * np.nan_to_num(known)))
        means = [float(a / b) if b > 0.0 else None for a, b in zip(summed, spent, strict=True)]
        return [rounded(mean, 4) for mean in (*means, means[-1])]

    joules = np.array([s.energy_j for s in found], dtype=np.float64)
    watts = [float(w) for w in _between(points, edges, joules) / np.diff(points)]
    return PowerLine(
        [rounded(float(t)) for t in points],
        [rounded(w, 4) for w in (*watts, watts[-1])],
        line([s.clock_mhz for s in found]),
        line([s.bound for s in found]),
        line([s.hbm_w for s in found]),
    )


def stretches(run: Run) -> list[Stretch]:
    """In time, by the energy counter's readings, or else the engine's steps that have energy."""
    if run.readings:
        return [
            Stretch(r.start_s, r.end_s, r.energy_j, r.sm_clock_mhz, r.cap_bound, r.hbm_w)
            for r in run.readings
            if r.end_s > r.start_s
        ]
    return [
        Stretch(
            s.start_s, s.end_s, s.energy_j, s.sm_clock_mhz, None if s.cap_bound is None else float(s.cap_bound), None
        )
        for s in run.steps or ()
        if s.energy_j is not None and s.end_s > s.start_s
    ]


def _between(points: np.ndarray, edges: np.ndarray, amounts: np.ndarray) -> np.ndarray:
    """What lies between each two points, of amounts spread evenly between edges."""
    found: np.ndarray = np.diff(np.interp(points, edges, np.concatenate([[0.0], np.cumsum(amounts)])))
    return found

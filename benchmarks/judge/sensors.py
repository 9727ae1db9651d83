"""What a recorder reads of the card: late, for a part of the time only, at ticks, and of all that draws."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import hypot

import numpy as np
from benchmarks.judge.engine import LEAD_S, Log
from benchmarks.judge.physics import Array

from rejoule.traces.run import Reading


@dataclass(frozen=True, slots=True)
class Sensor:
    tick_s: float = 0.1
    lag_s: float = 0.1
    """How old the energy is that a tick tells."""
    window_s: float | None = None
    """How much of each tick power is looked at for; ``None`` for all of it."""


@dataclass(frozen=True, slots=True)
class Company:
    """What else draws from the sockets that are measured."""

    constant_w: float = 0.0
    """Of another process, while the run lasts."""
    burst_w: float = 0.0
    """Of another process, in bursts of some seconds."""
    second_gpu_w: float = 0.0
    """Of a GPU without work."""
    told_together: bool = False
    """Only the sum of both GPUs is written down, as before they were told apart."""

    @property
    def any(self) -> bool:
        return bool(self.constant_w or self.burst_w or self.second_gpu_w)


@dataclass(frozen=True)
class Seen:
    readings: tuple[Reading, ...]
    energy_j: float
    uncertainty_j: float
    loaded_w: float
    after_w: float


def watch(log: Log, sensor: Sensor, company: Company, seed: int) -> Seen:
    """The readings of a run, from its start to its end, and what idle power was before and after it."""
    draw = random.Random(seed)
    times = np.array([log.start_s[0], *log.end_s])
    joules = np.r_[0.0, np.cumsum(log.joules)]
    end_s = log.end_s[-2]
    phase = draw.uniform(0.0, sensor.tick_s)
    ticks = np.arange(-LEAD_S + 1.2 + phase, end_s + 2.0 * sensor.tick_s + 1e-9, sensor.tick_s)
    told = _told(ticks, times, joules, sensor) + _foreign(ticks - sensor.lag_s, company, end_s, draw)
    edges = np.concatenate([[0.0], ticks[(ticks > 0.01) & (ticks < end_s - 0.01)], [end_s]])
    at = np.interp(edges, ticks, told)
    mine, other = np.diff(at).tolist(), (company.second_gpu_w * np.diff(edges)).tolist()
    both = [
        (a, b) if company.second_gpu_w and not company.told_together else () for a, b in zip(mine, other, strict=True)
    ]
    readings = tuple(
        Reading(float(a), float(b), one + two, gpus_j=each)
        for a, b, one, two, each in zip(edges, edges[1:], mine, other, both, strict=False)
    )
    # Between the ticks beside an end power may have gone either way.
    jumps_j: list[float] = np.abs(told[2:] - 2.0 * told[1:-1] + told[:-2]).tolist()
    ends_j = [jumps_j[max(0, min(len(jumps_j) - 1, int(np.searchsorted(ticks, t)) - 1))] for t in (0.0, end_s)]
    uncertainty_j = hypot(*ends_j) / 4.0 + 0.5
    loaded_w = log.joules[0] / LEAD_S + company.second_gpu_w + draw.gauss(0.0, 0.3)
    after_w = log.joules[-1] / LEAD_S + company.second_gpu_w + draw.gauss(0.0, 0.3)
    return Seen(readings, sum(r.energy_j for r in readings), uncertainty_j, loaded_w, after_w + company.constant_w)


def _told(ticks: Array, times: Array, joules: Array, sensor: Sensor) -> Array:
    moment = ticks - sensor.lag_s
    if sensor.window_s is None:
        return np.interp(moment, times, joules)
    seen = np.interp(moment, times, joules) - np.interp(moment - sensor.window_s, times, joules)
    told: Array = np.cumsum(seen) * (sensor.tick_s / sensor.window_s)
    return told


def _foreign(moments: Array, company: Company, end_s: float, draw: random.Random) -> Array:
    found = company.constant_w * np.clip(moments, 0.0, None)
    if company.burst_w:
        edges, now = [0.0], 0.0
        while now < end_s + 5.0:
            now += draw.uniform(1.0, 4.0)
            edges.append(now)
        on = np.arange(len(edges) - 1) % 2
        drawn = np.r_[0.0, np.cumsum(np.diff(edges) * on * company.burst_w)]
        found = found + np.interp(moments, edges, drawn)
    return found

"""How near steps come to a power cap: whether it binds then is a question of the card."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum

import numpy as np

from rejoule.replay.sim.latency import LatencyModel
from rejoule.replay.sim.makeup import work_of
from rejoule.replay.sim.power import PowerModel
from rejoule.replay.sim.records import StepRecord


def near_cap(records: Sequence[StepRecord], latency: LatencyModel, power: PowerModel, spread: float) -> float | None:
    """The share of the busy time in steps that draw, uncapped, at most ``spread`` (relative) more or less than the cap.

    ``None`` where nothing was done.
    """
    busy = [record for record in records if not record.idle]
    if not busy:
        return None
    demands = np.array([latency.demand(work_of(record)) for record in busy])
    clock_mhz = float(power.clocks_mhz[-1])
    watts = power.joules(demands, clock_mhz) / latency.times(demands, clock_mhz).step_s / power.gpus
    near = (watts <= power.cap_w * (1 + spread)) & (watts * (1 + spread) >= power.cap_w)
    seconds = [record.end_s - record.start_s for record in busy]
    return fsum(s for s, within in zip(seconds, near, strict=True) if within) / fsum(seconds)

"""Simulated runs of a small grid, with readings as a sampler would have taken them."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import replace
from typing import Any

from rejoule.replay.calibration.grid import Limits, grid
from rejoule.replay.engines.open import open_engine
from rejoule.replay.replay import replay
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.run import Configuration, Reading, Run
from rejoule.traces.runs import PlannedRun

PROFILE = "h200-data-sheet-llama-3.1-8b"
SMALL = Limits(max_num_seqs=64, kv_tokens=200_000, cell_s=0.1, gap_s=0.1, rest_s=0.3)
PERIOD_S = 0.05


def simulated(
    sm_clock_mhz: float | None = None,
    limits: Limits = SMALL,
    profile: str = PROFILE,
    power_cap_w: float | None = None,
    **options: Any,
) -> Run:
    """A run of the grid with readings; ``profile`` is a name or a path."""
    trace = grid(load_profile(PROFILE), limits)
    configuration = Configuration(
        profile=profile,
        max_num_seqs=limits.max_num_seqs,
        sm_clock_mhz=sm_clock_mhz,
        power_cap_w=power_cap_w,
        options=options,
    )
    run = asyncio.run(replay(trace, PlannedRun("grid", "grid", configuration, 0), "", open_engine))
    return replace(run, readings=readings(run))


def readings(run: Run) -> tuple[Reading, ...]:
    """Energy and mean clock of every stretch of ``PERIOD_S``, from the steps."""
    steps = run.steps or ()
    ends = [step.end_s for step in steps]
    found = []
    for i in range(int(ends[-1] / PERIOD_S)):
        start_s, end_s = i * PERIOD_S, (i + 1) * PERIOD_S
        energy_j = clock = 0.0
        for step in steps[bisect_right(ends, start_s) :]:
            if step.start_s >= end_s:
                break
            shared_s = min(step.end_s, end_s) - max(step.start_s, start_s)
            energy_j += (step.energy_j or 0.0) * shared_s / (step.end_s - step.start_s)
            clock += (step.sm_clock_mhz or 1980.0) * shared_s / PERIOD_S
        found.append(Reading(start_s, end_s, energy_j, clock))
    return tuple(found)

"""Trials of one configuration that differ as measured ones do."""

from __future__ import annotations

from dataclasses import replace
from math import fsum

import numpy as np
from tests.analysis import builders

from rejoule.traces.model import Trace
from rejoule.traces.run import Run


def trials(source: Trace, count: int, random: np.random.Generator, noise: float = 0.015) -> list[Run]:
    """Runs whose time and power vary by ``noise`` from trial to trial, and from step to step a little more."""
    return [
        _noisy(builders.run(source, 8, trial=t, engine="vllm", energy_source="nvml-counter"), random, noise)
        for t in range(count)
    ]


def _noisy(run: Run, random: np.random.Generator, noise: float) -> Run:
    pace, power = np.exp(random.normal(0.0, noise, 2))
    steps, now = [], 0.0
    moved = {0.0: 0.0}
    for step in run.steps or ():
        own = float(np.exp(random.normal(0.0, 2.0 * noise)))
        seconds = (step.end_s - step.start_s) * float(pace) * own
        joules = (step.energy_j or 0.0) * float(pace * power) * own
        steps.append(replace(step, start_s=now, end_s=now + seconds, energy_j=joules))
        now += seconds
        moved[step.end_s] = now
    times, places = list(moved), list(moved.values())

    def at(time: float | None) -> float:
        return float(np.interp(time or 0.0, times, places))

    return replace(
        run,
        makespan_s=now,
        steps=tuple(steps),
        calls=tuple(
            replace(c, due_s=at(c.due_s), sent_s=at(c.sent_s), first_token_s=at(c.first_token_s), end_s=at(c.end_s))
            for c in run.calls
        ),
        workflows=tuple(replace(w, arrival_s=at(w.arrival_s), end_s=at(w.end_s)) for w in run.workflows),
        energy=replace(
            run.energy,
            gpu_j=fsum(s.energy_j or 0.0 for s in steps),
            idle_j=fsum(s.energy_j or 0.0 for s in steps if s.idle),
        ),
    )

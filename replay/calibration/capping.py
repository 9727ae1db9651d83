"""How a GPU keeps its power limit: which clock a step can have had, and how long it may draw more than the limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import fsum
from typing import Final

import numpy as np
from msgspec.structs import replace

from rejoule.replay.calibration.observations import Engine, ObservedStep, observed_steps
from rejoule.replay.sim.latency import LatencyModel, Work
from rejoule.replay.sim.power import PowerModel
from rejoule.replay.sim.profile import PowerCurve, Profile
from rejoule.traces.run import Reading, Run

PEAKS: Final = (0.0, 1.02, 1.04, 1.06, 1.08, 1.1, 1.13, 1.16, 1.2)
WINDOWS_S: Final = (0.05, 0.1, 0.2, 0.3, 0.45, 0.7)


@dataclass(frozen=True, slots=True)
class Capped:
    """A run's steps and readings, under a cap in watts, or under the default limit."""

    steps: Sequence[ObservedStep]
    readings: Sequence[Reading]
    cap_w: float | None


def cap_of(run: Run) -> float | None:
    """The cap that a run was under; ``None`` is the default limit."""
    return run.power_cap.in_force_w or run.configuration.power_cap_w


def highest_clock(profile: Profile, cap_w: float | None) -> Callable[[Work, Engine], float]:
    """The SM clock that a step cannot exceed, since it would draw more than the peak that a cap allows."""

    @cache
    def models(engine: Engine) -> tuple[LatencyModel, PowerModel]:
        seats, custom = engine
        latency = LatencyModel(profile, seats, custom_all_reduce=custom)
        return latency, PowerModel(profile, latency, cap_w)

    @cache
    def highest(work: Work, engine: Engine) -> float:
        latency, power = models(engine)
        return power.burst(latency.demand(work)).clock_mhz

    return highest


def clocked(runs: Iterable[Run]) -> bool:
    """Whether caps or locks held the clock of some run down."""
    return any(run.configuration.power_cap_w or run.configuration.sm_clock_mhz for run in runs)


def unclocked_note(base: str) -> str:
    """What a fit does not know where none did."""
    return (
        f"no run was capped or locked: how power depends on the clock stays that of {base}, and figures under caps and "
        "locks are assumed; measure with --power-cap, or --sm-clock"
    )


def capped(runs: Iterable[Run]) -> list[Capped]:
    """What ``fit_cap`` needs of them."""
    return [Capped(list(observed_steps(run)), run.readings or (), cap_of(run)) for run in runs]


def fit_cap(profile: Profile, runs: Iterable[Capped]) -> Profile:
    """``profile`` with the peak and the window that explain the readings best, of a few that are tried."""
    return replace(profile, power=best_cap(profile.power, [(profile, run) for run in runs]))


def best_cap(power: PowerCurve, runs: Iterable[tuple[Profile, Capped]]) -> PowerCurve:
    """The same of runs of several models on one GPU, whose ``power`` it is; each run with its model's profile."""
    known = [(profile, run) for profile, run in runs if run.readings]
    if not known:
        return power
    tried = [replace(power, cap_peak=peak, cap_window_s=window_s) for peak, window_s in product(PEAKS, WINDOWS_S)]
    return min(tried, key=lambda each: fsum(_misfit(replace(profile, power=each), run) for profile, run in known))


def _misfit(profile: Profile, run: Capped) -> float:
    """Sum of squared differences of the readings' joules, from the steps as they were timed and the clocks modelled."""
    if not run.steps:
        return 0.0
    seats, custom = run.steps[0].engine
    latency = LatencyModel(profile, seats, custom_all_reduce=custom)
    power = PowerModel(profile, latency, run.cap_w)
    moments, joules = [], [0.0]
    ended_s = run.steps[0].start_s
    for step in run.steps:
        if step.start_s > ended_s:
            power.hold(power.idle_w, ended_s)
        ended_s = step.end_s
        beyond_idle_w = power.run(latency.demand(step.work), step.start_s).power_w - power.idle_w
        moments += [step.start_s, step.end_s]
        joules += [joules[-1] + beyond_idle_w * step.duration_s] * 2
    edges = [*(r.start_s for r in run.readings), run.readings[-1].end_s]
    modelled = np.diff(np.interp(edges, moments, joules[:-1])) + power.idle_w * np.diff(edges)
    return float(np.sum((modelled - np.array([r.energy_j for r in run.readings])) ** 2))

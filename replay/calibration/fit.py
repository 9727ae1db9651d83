"""Fits a profile's timing and power to measured runs, with the simulator's own models as the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import fsum
from typing import Final, TypeVar

import numpy as np
from msgspec.structs import replace

from rejoule.replay.calibration.least_squares import Found, Parameter, Vector, least_squares
from rejoule.replay.calibration.observations import Bin, Kind, ObservedStep, PowerReading, Span
from rejoule.replay.sim.latency import LatencyModel, StepTime
from rejoule.replay.sim.power import PowerModel
from rejoule.replay.sim.profile import PowerCurve, Profile, Timing

TIMING: Final = {
    "compute_efficiency": (0.05, 1.2),
    "memory_efficiency": (0.05, 1.2),
    "memory_knee": (0.05, 1.0),
    "overlap_norm": (1.0, 20.0),
    "per_request_s": (1e-8, 1e-3),
    "per_step_s": (1e-6, 0.1),
    "host_per_step_s": (1e-5, 0.1),
    "host_per_request_s": (1e-8, 1e-3),
    "host_prefill_s": (1e-5, 0.2),
    "host_eager_s": (1e-5, 0.2),
    "host_first_s": (1e-5, 0.2),
    "attention_efficiency": (0.05, 1.2),
}
"""What is fitted, and between which bounds. The overhead by layer cannot be told from that by step, and stays."""
POWER: Final = {
    "idle_w": (1.0, 1000.0),
    "memory_w": (0.1, 2000.0),
    "awake_w": (0.1, 2000.0),
    "compute_w": (0.1, 5000.0),
    "traffic_w": (0.1, 5000.0),
    "cache_w": (0.1, 5000.0),
    "knee": (0.2, 1.0),
    "voltage_slope": (0.01, 10.0),
}
SLOW_HOST_S: Final = {"host_prefill_s": 0.005, "host_eager_s": 0.02}
"""The host's time shows only where it is longer than the GPU's, so it is looked for from above."""
SENSOR_S: Final = 1.0
"""NVML's average power is of the last second."""
FIRST_S: Final = 1e-3
"""Where the search begins if the base knows none."""
_Members = list[tuple[ObservedStep, int]]
"""Steps and how often each was done."""
_Held = TypeVar("_Held", Timing, PowerCurve)
KINDS: Final[tuple[Kind, ...]] = ("decode", "prefill", "mixed")


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions lie from what was measured."""

    count: int
    mape: float
    """Mean of |predicted - measured| / measured."""
    total: float
    """Of the sums: (predicted - measured) / measured."""
    r2: float | None
    """Share of the variance that is explained; ``None`` where nothing varies."""


def fit_timing(profile: Profile, bins: Sequence[Bin]) -> tuple[Profile, Found]:
    """``profile`` with the timing that explains the bins' durations best, and how well each constant is known."""
    members = [_once(b) for b in bins]
    spilled = [b for b in bins if b.spilled_s is not None]
    measured = np.array([*(b.duration_s for b in bins), *(b.spilled_s or 0.0 for b in spilled)])
    weights = _weights([*(b.duration_s * b.count for b in bins), *(b.duration_s * b.count for b in spilled)])
    held = profile.timing
    start = replace(
        held,
        **{name: max(seconds, getattr(held, name)) for name, seconds in SLOW_HOST_S.items()},
        host_first_s=held.host_first_s or FIRST_S,
        attention_efficiency=held.attention_efficiency or held.compute_efficiency,
    )

    def predicted(values: Mapping[str, float]) -> Vector:
        tried = replace(profile, timing=_with(start, values))
        return np.concatenate([_durations(tried, members), _launches(tried, spilled)])

    found = least_squares(predicted, measured, weights, _parameters(start, TIMING))
    return replace(profile, timing=_with(start, found.values)), found


def fit_power(profile: Profile, readings: Sequence[PowerReading]) -> tuple[Profile, Found]:
    """``profile`` with the power curve that explains the readings best, its timing taken as it is."""
    times = _times(profile, readings)
    clocks = [r.clock_mhz for r in readings]
    start = replace(profile.power, cache_w=profile.power.cache_w or profile.power.traffic_w)
    bounds = dict(POWER)
    if (memory_w := _memory_w(times, [r.hbm_w for r in readings])) is not None:
        start = replace(start, memory_w=memory_w)
        del bounds["memory_w"]
    found = least_squares(
        lambda values: _powers(replace(profile, power=_with(start, values)), times, clocks),
        np.array([r.power_w for r in readings]),
        _weights([r.length_s for r in readings]),
        _parameters(start, bounds),
    )
    return replace(profile, power=_with(start, found.values)), found


def timing_errors(profile: Profile, spans: Sequence[Span]) -> dict[str, Errors]:
    """By kind of span, and of ``all``."""
    predicted = _durations(profile, [[(step, step.steps) for step in s.steps] for s in spans])
    measured = np.array([s.duration_s for s in spans])
    kinds = np.array([s.kind for s in spans])
    chosen = {str(kind): kinds == kind for kind in KINDS} | {"all": np.ones(len(spans), dtype=bool)}
    return {name: errors(predicted[m], measured[m]) for name, m in chosen.items() if m.any()}


def power_errors(profile: Profile, readings: Sequence[PowerReading]) -> Errors:
    """Of the readings' mean power."""
    predicted = _powers(profile, _times(profile, readings), [r.clock_mhz for r in readings])
    return errors(predicted, np.array([r.power_w for r in readings]), np.array([r.length_s for r in readings]))


def errors(predicted: Vector, measured: Vector, weights: Vector | None = None) -> Errors:
    """Of one quantity; ``weights`` are those of the sums."""
    weights = np.ones(len(measured)) if weights is None else weights
    spread = float(np.sum((measured - measured.mean()) ** 2))
    return Errors(
        len(measured),
        float(np.mean(np.abs(predicted - measured) / measured)),
        float(weights @ predicted / (weights @ measured) - 1),
        1 - float(np.sum((predicted - measured) ** 2)) / spread if spread else None,
    )


def _parameters(held: Timing | PowerCurve, bounds: Mapping[str, tuple[float, float]]) -> list[Parameter]:
    return [
        Parameter(name, min(high, max(low, getattr(held, name))), low, high) for name, (low, high) in bounds.items()
    ]


def _with(held: _Held, values: Mapping[str, float]) -> _Held:
    return replace(held, **{name: value for name, value in values.items() if hasattr(held, name)})


def _weights(seconds: Sequence[float]) -> Vector:
    # What was seen for longer is known better, but nothing outweighs all the rest.
    roots = np.sqrt(np.asarray(seconds))
    return np.asarray(np.minimum(roots / np.median(roots), 3.0))


def _durations(profile: Profile, members: Sequence[_Members]) -> Vector:
    time = _timer(profile)
    return np.array([fsum(steps * time(step).step_s for step, steps in each) for each in members])


def _launches(profile: Profile, spilled: Sequence[Bin]) -> Vector:
    """How long the first step of each span seems: until the second is launched."""
    time, models = _timer(profile), _models(profile)
    found = []
    for each in spilled:
        before, launched = each.span.steps
        found.append(max(time(before).step_s, models(launched.seats).demand(launched.work).host_s))
    return np.array(found)


def _models(profile: Profile) -> Callable[[int | None], LatencyModel]:
    return cache(lambda seats: LatencyModel(profile, seats))


def _timer(profile: Profile) -> Callable[[ObservedStep], StepTime]:
    """Times steps at the clock that they ran at, on an engine like theirs."""
    models, top = _models(profile), profile.gpu.max_clock_mhz

    def time(step: ObservedStep) -> StepTime:
        model = models(step.seats)
        return model.time(model.demand(step.work), step.clock_mhz or top)

    return time


def _once(found: Bin) -> _Members:
    """A bin's steps: one of a stretch of equal ones, of which its duration is."""
    steps = found.span.steps
    return [(step, 1 if len(steps) == 1 else step.steps) for step in steps]


def _times(profile: Profile, readings: Sequence[PowerReading]) -> list[StepTime]:
    """For how long compute and memory were busy in each reading."""
    models = _models(profile)
    found = []
    for reading in readings:
        compute_s = memory_s = cache_s = 0.0
        for step, share in reading.seen:
            model = models(step.seats)
            time = model.time(model.demand(step.work), reading.clock_mhz)
            compute_s += share * step.steps * min(time.compute_s, time.step_s)
            memory_s += share * step.steps * min(time.memory_s, time.step_s)
            cache_s += share * step.steps * min(time.cache_s, time.step_s)
        found.append(StepTime(compute_s, memory_s, reading.length_s, reading.length_s, cache_s))
    return found


def _memory_w(times: Sequence[StepTime], hbm_w: Sequence[float | None]) -> float | None:
    """What the memory draws beyond idle while it is busy, by its own sensor; ``None`` without one.

    The slope of its power over the share of the time that memory was busy, both of the last second. From the GPU's
    power alone this part, which does not follow the SM clock, could only be told by measuring under caps or locks.
    """
    told = [watts for watts in hbm_w if watts is not None]
    if len(told) < len(hbm_w) or not told:
        return None
    beyond = np.array(told) - min(told)
    busy = np.array([_busy(times, at) for at in range(len(times))])
    return float(busy @ beyond / (busy @ busy)) if busy.any() else None


def _busy(times: Sequence[StepTime], last: int) -> float:
    """The share of the second up to the end of a reading in which memory was busy."""
    length_s = memory_s = 0.0
    for time in reversed(times[: last + 1]):
        length_s += time.step_s
        memory_s += time.memory_s
        if length_s >= SENSOR_S:
            break
    return memory_s / length_s


def _powers(profile: Profile, times: Sequence[StepTime], clocks: Sequence[float]) -> Vector:
    model = PowerModel(profile, LatencyModel(profile))
    return np.array([model.power_of(time, clock) for time, clock in zip(times, clocks, strict=True)])

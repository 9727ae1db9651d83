"""Fits a profile's timing and power to measured runs, with the simulator's own models as the formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
}
"""What is fitted, and between which bounds. The overhead by layer cannot be told from that by step, and stays."""
POWER: Final = {
    "idle_w": (1.0, 1000.0),
    "memory_w": (0.1, 2000.0),
    "awake_w": (0.1, 2000.0),
    "compute_w": (0.1, 5000.0),
    "traffic_w": (0.1, 5000.0),
    "knee": (0.2, 1.0),
    "voltage_slope": (0.01, 10.0),
}
SLOW_HOST_S: Final = 0.02
"""The host's time shows only where it is longer than the GPU's, so it is looked for from above too."""
BETTER: Final = 0.99
"""By which factor the misfit must fall for a host that needs longer for prompts."""
FIRST_S: Final = "first_s"
"""What a step after an idle stretch takes longer. It is fitted so that it does not bend the rest; no model has it."""
FIRST: Final = Parameter(FIRST_S, 1e-3, 1e-6, 0.2)
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
    measured = np.array([b.duration_s for b in bins])
    weights = _weights([b.duration_s * b.count for b in bins])

    def fitted(start: Timing) -> Found:
        return least_squares(
            lambda values: _durations(replace(profile, timing=_with(start, values)), members, values[FIRST_S]),
            measured,
            weights,
            [*_parameters(start, TIMING), FIRST],
        )

    found = fitted(profile.timing)
    slow = fitted(replace(profile.timing, host_prefill_s=max(SLOW_HOST_S, profile.timing.host_prefill_s)))
    if slow.misfit < BETTER * found.misfit:
        found = slow
    return replace(profile, timing=_with(profile.timing, found.values)), found


def fit_power(profile: Profile, readings: Sequence[PowerReading]) -> tuple[Profile, Found]:
    """``profile`` with the power curve that explains the readings best, its timing taken as it is."""
    times = _times(profile, readings)
    clocks = [r.clock_mhz for r in readings]
    found = least_squares(
        lambda values: _powers(replace(profile, power=_with(profile.power, values)), times, clocks),
        np.array([r.power_w for r in readings]),
        _weights([r.length_s for r in readings]),
        _parameters(profile.power, POWER),
    )
    return replace(profile, power=_with(profile.power, found.values)), found


def timing_errors(profile: Profile, spans: Sequence[Span], first_s: float = 0.0) -> dict[str, Errors]:
    """By kind of span, and of ``all``."""
    predicted = _durations(profile, [[(step, step.steps) for step in s.steps] for s in spans], first_s)
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


def _durations(profile: Profile, members: Sequence[_Members], first_s: float) -> Vector:
    model = LatencyModel(profile)
    top = profile.gpu.max_clock_mhz
    return np.array(
        [
            fsum(
                steps * model.time(model.demand(step.work), step.clock_mhz or top).step_s + first_s * step.after_idle
                for step, steps in each
            )
            for each in members
        ]
    )


def _once(found: Bin) -> _Members:
    """A bin's steps: one of a stretch of equal ones, of which its duration is."""
    steps = found.span.steps
    return [(step, 1 if len(steps) == 1 else step.steps) for step in steps]


def _times(profile: Profile, readings: Sequence[PowerReading]) -> list[StepTime]:
    """For how long compute and memory were busy in each reading."""
    model = LatencyModel(profile)
    found = []
    for reading in readings:
        compute_s = memory_s = 0.0
        for step, share in reading.seen:
            time = model.time(model.demand(step.work), reading.clock_mhz)
            compute_s += share * step.steps * min(time.compute_s, time.step_s)
            memory_s += share * step.steps * min(time.memory_s, time.step_s)
        found.append(StepTime(compute_s, memory_s, reading.length_s, reading.length_s))
    return found


def _powers(profile: Profile, times: Sequence[StepTime], clocks: Sequence[float]) -> Vector:
    model = PowerModel(profile, LatencyModel(profile))
    return np.array([model.power_of(time, clock) for time, clock in zip(times, clocks, strict=True)])

"""Fits a profile's timing and power to measured runs, with the simulator's own models as the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import fsum
from typing import Final, NamedTuple, TypeVar

import numpy as np
from msgspec.structs import replace

from rejoule.replay.calibration.least_squares import Found, Parameter, Vector, least_squares
from rejoule.replay.calibration.observations import Bin, Engine, Kind, Launch, ObservedStep, PowerReading, Span
from rejoule.replay.sim.latency import Demand, LatencyModel, StepTime, Work
from rejoule.replay.sim.links import ALONE
from rejoule.replay.sim.pipeline import span_s, workers_span_s
from rejoule.replay.sim.power import PowerModel
from rejoule.replay.sim.profile import PowerCurve, Profile, Timing
from rejoule.traces.words import in_percent

TIMING: Final = {
    "compute_efficiency": (0.05, 1.0),
    "memory_efficiency": (0.05, 1.0),
    "memory_knee": (0.05, 1.0),
    "overlap_norm": (1.0, 20.0),
    "per_request_s": (1e-8, 1e-3),
    "per_step_s": (1e-6, 0.1),
    "host_per_step_s": (1e-5, 0.1),
    "host_per_request_s": (1e-8, 1e-3),
    "host_prefill_s": (1e-5, 0.2),
    "host_eager_s": (1e-5, 0.2),
    "host_first_s": (1e-5, 0.2),
    "attention_efficiency": (0.05, 1.0),
}
"""What is fitted, and between which bounds. The overhead by layer cannot be told from that by step, and stays."""
SHARED: Final = {
    "all_reduce_s": (1e-7, 1e-3),
    "all_reduce_efficiency": (0.05, 1.0),
    "nccl_s": (1e-7, 1e-3),
    "nccl_efficiency": (0.05, 1.0),
    "host_workers_s": (1e-5, 0.1),
}
"""What is fitted too of several GPUs that share each layer,"""
TWO_SHOTS: Final = {"two_shot_s": (1e-7, 1e-3), "two_shot_efficiency": (0.05, 1.0)}
"""of more than two, and"""
OF_ONE: Final = ("per_step_s", "host_per_step_s")
"""what stays then: of each step, it cannot be told from what all-reduces and workers take of each step."""
ITS_OWN: Final = ("compute_efficiency", "memory_efficiency", "memory_knee", "overlap_norm", "attention_efficiency")
"""What stays where one GPU alone has shown it: matrix products and NCCL's bytes both grow with tokens, weights and the
latency of all-reduces are both of each step."""
POWER: Final = {
    "idle_w": (1.0, 1000.0),
    "memory_w": (0.1, 2000.0),
    "awake_w": (0.1, 2000.0),
    "compute_w": (0.1, 5000.0),
    "traffic_w": (0.1, 5000.0),
    "cache_w": (0.1, 5000.0),
    "knee": (0.2, 1.0),
    "voltage_slope": (0.01, 10.0),
    "voltage_sag": (0.01, 1.0),
    "floor": (0.05, 1.0),
}
WAITING: Final = 0.1
"""What all-reduces draw where the base does not know, as a share of the limit."""
CLOCKED: Final = ("knee", "voltage_slope", "voltage_sag", "floor")
SLOW_HOST_S: Final = {"host_prefill_s": 0.005, "host_eager_s": 0.02}
"""The host's time shows only where it is longer than the GPU's, so it is looked for from above."""
RARE: Final = 20
"""What was seen so often counts half as much as what was seen always: single steps differ more than the model errs."""
SENSOR_S: Final = 1.0
"""NVML's average power is of the last second."""
FIRST_S: Final = 1e-3
"""Where the search begins if the base knows none."""
_Members = tuple[Sequence[tuple[ObservedStep, int]], bool]
"""Steps in a row, how often each was done, and whether nothing was launched behind the last."""
_Held = TypeVar("_Held", Timing, PowerCurve)
KINDS: Final[tuple[Kind, ...]] = ("decode", "prefill", "mixed")
FAR: Final = 0.1
"""A mean absolute error of steps above which a fit has failed. On one H200 it was 4 %, on two 6 % (``provenance``)."""
FEW: Final = 10
ALIKE: Final = 0.05
"""Standard deviation over mean: below, R² compares the errors with next to nothing, and says nothing of them."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How far predictions lie from what was measured."""

    count: int
    mape: float
    """Mean of |predicted - measured| / measured."""
    total: float
    """Of the sums: (predicted - measured) / measured."""
    r2: float | None
    """Share of the variance that is explained; ``None`` of fewer than ``FEW`` values, of those that are alike, and
    where the errors vary more than the values do, so that no share is."""


class Timed(NamedTuple):
    """What was seen of the steps of one model, and the profile of that model."""

    profile: Profile
    bins: Sequence[Bin]
    launches: Sequence[Launch]


class Drawn(NamedTuple):
    """What one model was seen to draw, and its profile, whose timing is known."""

    profile: Profile
    readings: Sequence[PowerReading]


Tried = Callable[[Profile, Mapping[str, float]], Profile]
"""A profile with values of the parameters."""


def fit_timing(profile: Profile, bins: Sequence[Bin], launches: Sequence[Launch]) -> tuple[Profile, Found]:
    """``profile`` with the timing that explains durations and launches best, and how well each constant is known."""
    start = timing_start(profile.timing)

    def tried(of: Profile, values: Mapping[str, float]) -> Profile:
        return replace(of, timing=with_values(start, values))

    found = fit_times([Timed(profile, bins, launches)], parameters(start, _bounds(profile)), tried)
    return tried(profile, found.values), found


def timing_start(held: Timing) -> Timing:
    """Where the search begins: constants that the base does not know where they could be, a host where it shows."""
    return replace(
        held,
        **{name: max(seconds, getattr(held, name)) for name, seconds in SLOW_HOST_S.items()},
        host_first_s=held.host_first_s or FIRST_S,
        nccl_s=held.all_reduce_s if held.nccl_s is None else held.nccl_s,
        two_shot_s=held.all_reduce_s if held.two_shot_s is None else held.two_shot_s,
        attention_efficiency=held.attention_efficiency or held.compute_efficiency,
    )


def fit_times(seen: Sequence[Timed], sought: Sequence[Parameter], tried: Tried) -> Found:
    """The values that explain durations and launches of all models best."""
    members = [[_once(b) for b in each.bins] for each in seen]
    measured = [s for each in seen for s in (*(b.duration_s for b in each.bins), *(a.host_s for a in each.launches))]
    counts = np.array([n for each in seen for n in (*(b.count for b in each.bins), *(a.count for a in each.launches))])

    def predicted(values: Mapping[str, float]) -> Vector:
        parts: list[Vector] = []
        for each, steps in zip(seen, members, strict=True):
            profile = tried(each.profile, values)
            parts += [_durations(profile, steps), _launched(profile, each.launches)]
        return np.concatenate(parts)

    return least_squares(predicted, np.array(measured), counts / (counts + RARE), sought)


def fit_power(profile: Profile, readings: Sequence[PowerReading], *, clocked: bool = True) -> tuple[Profile, Found]:
    """``profile`` with the power curve that explains the readings best, its timing taken as it is: ``fit_watts``."""
    power, found = fit_watts([Drawn(profile, readings)], clocked=clocked)
    return replace(profile, power=power), found


def fit_watts(drawn: Sequence[Drawn], *, clocked: bool = True) -> tuple[PowerCurve, Found]:
    """The power curve of one GPU that explains the readings of all models best.

    Unless the GPU was ``clocked`` by caps or locks, how power depends on the clock stays as it is: without them, the
    clock falls only where the load is greatest, and cannot be told from the load.
    """
    readings = [reading for each in drawn for reading in each.readings]
    times = [time for each in drawn for time in _times(each.profile, each.readings)]
    clocks = [r.clock_mhz for r in readings]
    # Given the times, watts are those of the GPU, whatever the model.
    profile = drawn[0].profile
    start = replace(profile.power, cache_w=profile.power.cache_w or profile.power.traffic_w)
    bounds = {name: limits for name, limits in POWER.items() if clocked or name not in CLOCKED}
    if profile.tensor_parallel > 1:
        start = replace(start, link_w=start.link_w or WAITING * profile.gpu.default_power_limit_w)
        bounds["link_w"] = (0.1, 5000.0)
    if (memory_w := _memory_w(times, [r.hbm_w for r in readings])) is not None:
        # Sensors are read together, and the curve is of one GPU.
        start = replace(start, memory_w=memory_w / profile.tensor_parallel)
        del bounds["memory_w"]
    found = least_squares(
        lambda values: _powers(replace(profile, power=with_values(start, values)), times, clocks),
        np.array([r.power_w for r in readings]),
        _weights([r.length_s for r in readings]),
        parameters(start, bounds),
    )
    return with_values(start, found.values), found


def timing_errors(profile: Profile, spans: Sequence[Span]) -> dict[str, Errors]:
    """By kind of span, and of ``all``."""
    predicted = _durations(profile, [([(step, step.steps) for step in s.steps], s.ends) for s in spans])
    measured = np.array([s.duration_s for s in spans])
    kinds = np.array([s.kind for s in spans])
    chosen = {str(kind): kinds == kind for kind in KINDS} | {"all": np.ones(len(spans), dtype=bool)}
    return {name: errors(predicted[m], measured[m]) for name, m in chosen.items() if m.any()}


def far_note(base: str, timing: Mapping[str, Errors]) -> str | None:
    """That the steps of the runs given with ``base`` are still far off after the fit, if so."""
    size = timing["all"].mape
    if size <= FAR:
        return None
    return (
        f"steps are still off by {in_percent(size)} after the fit: {base} is not of what was measured, or something "
        "else ran beside it; do not trust what was fitted"
    )


def power_errors(profile: Profile, readings: Sequence[PowerReading]) -> Errors:
    """Of the readings' mean power."""
    predicted = _powers(profile, _times(profile, readings), [r.clock_mhz for r in readings])
    return errors(predicted, np.array([r.power_w for r in readings]), np.array([r.length_s for r in readings]))


def errors(predicted: Vector, measured: Vector, weights: Vector | None = None) -> Errors:
    """Of one quantity; ``weights`` are those of the sums."""
    weights = np.ones(len(measured)) if weights is None else weights
    spread = float(np.sum((measured - measured.mean()) ** 2))
    missed = float(np.sum((predicted - measured) ** 2))
    told = len(measured) >= FEW and float(measured.std()) >= ALIKE * float(measured.mean()) and missed < spread
    return Errors(
        len(measured),
        float(np.mean(np.abs(predicted - measured) / measured)),
        float(weights @ predicted / (weights @ measured) - 1),
        1 - missed / spread if told else None,
    )


def _bounds(profile: Profile) -> dict[str, tuple[float, float]]:
    """The constants of timing that are fitted, of as many GPUs as the profile has, and between which bounds."""
    if profile.tensor_parallel == 1:
        return TIMING
    known = [name for name in ITS_OWN if profile.sources.get(f"timing.{name}", "").startswith(ALONE)]
    alone = {name: limits for name, limits in TIMING.items() if name not in (*OF_ONE, *known)}
    return alone | SHARED | (TWO_SHOTS if profile.tensor_parallel > 2 else {})


def parameters(held: Timing | PowerCurve, bounds: Mapping[str, tuple[float, float]]) -> list[Parameter]:
    """What is to be found, from where it is held and within bounds."""
    return [
        Parameter(name, min(high, max(low, getattr(held, name))), low, high) for name, (low, high) in bounds.items()
    ]


def with_values(held: _Held, values: Mapping[str, float]) -> _Held:
    """Constants, with those of ``values`` that are among them."""
    return replace(held, **{name: value for name, value in values.items() if hasattr(held, name)})


def _weights(seconds: Sequence[float]) -> Vector:
    # What was seen for longer is known better, but nothing outweighs all the rest.
    roots = np.sqrt(np.asarray(seconds))
    return np.asarray(np.minimum(roots / np.median(roots), 3.0))


def _durations(profile: Profile, members: Sequence[_Members]) -> Vector:
    """How long each of these takes; behind it, a step is launched in which all of its last go on decoding."""
    models, cost = _models(profile), _coster(profile)

    def seconds(members: _Members) -> float:
        each, ends = members
        costs = [cost(step) for step, _ in each]
        first = costs[0][0].first_s if each[0][0].work.first else None
        alike = fsum((steps - 1) * time.step_s for (_, steps), (_, time) in zip(each, costs, strict=True))
        if profile.tensor_parallel > 1:
            whole = [models(step.engine).is_whole(step.work.prefills, step.work.decodes) for step, _ in each]
            handed = [(time.gpu_s, demand.host_s, one) for (demand, time), one in zip(costs, whole, strict=True)]
            return alike + workers_span_s(handed, first, profile.timing.per_step_s)
        last = each[-1][0]
        then = Work(decodes=last.work.prefills + last.work.decodes)
        next_s = 0.0 if ends else models(last.engine).demand(then).host_s
        launches = [(time.gpu_s, demand.host_s) for demand, time in costs]
        return alike + span_s(launches, first, next_s, profile.timing.per_step_s)

    return np.array([seconds(each) for each in members])


def _launched(profile: Profile, launches: Sequence[Launch]) -> Vector:
    """How long the step before each launch seems: until that is done."""
    cost = _coster(profile)
    return np.array([max(cost(each.before)[1].step_s, cost(each.launched)[0].host_s) for each in launches])


def _models(profile: Profile) -> Callable[[Engine], LatencyModel]:
    return cache(lambda engine: LatencyModel(profile, engine[0], custom_all_reduce=engine[1]))


def _coster(profile: Profile) -> Callable[[ObservedStep], tuple[Demand, StepTime]]:
    """What steps ask for and take at the clock that they ran at, on an engine like theirs."""
    models, top = _models(profile), profile.gpu.max_clock_mhz

    def cost(step: ObservedStep) -> tuple[Demand, StepTime]:
        model = models(step.engine)
        demand = model.demand(step.work)
        return demand, model.time(demand, step.clock_mhz or top)

    return cost


def _once(found: Bin) -> _Members:
    """A bin's steps: one of a stretch of equal ones, of which its duration is."""
    steps = found.span.steps
    return [(step, 1 if len(steps) == 1 else step.steps) for step in steps], found.span.ends


def _times(profile: Profile, readings: Sequence[PowerReading]) -> list[StepTime]:
    """For how long compute and memory were busy in each reading."""
    models = _models(profile)
    found = []
    for reading in readings:
        compute_s = memory_s = cache_s = link_s = 0.0
        for step, share in reading.seen:
            model = models(step.engine)
            time = model.time(model.demand(step.work), reading.clock_mhz)
            compute_s += share * step.steps * min(time.compute_s, time.step_s)
            memory_s += share * step.steps * min(time.memory_s, time.step_s)
            cache_s += share * step.steps * min(time.cache_s, time.step_s)
            link_s += share * step.steps * min(time.link_s, time.step_s)
        found.append(StepTime(compute_s, memory_s, reading.length_s, reading.length_s, cache_s, link_s))
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

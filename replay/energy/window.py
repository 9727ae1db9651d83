"""The joules of a window of time, how surely they are known, and what held meanwhile: from samples, pure.

Energy is the difference of the counter at the window's two ends (``ticks``). Sampled power is integrated beside it
(``power``), as a cross-check, and stands in where a counter does not answer. Sums are over all GPUs, idle ones
included, each on its own timestamps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from rejoule.replay.energy.power import MEAN_S, integral_sigma_j, shape
from rejoule.replay.energy.samples import Samples, Track
from rejoule.replay.energy.ticks import (
    Ticks,
    broken_between,
    energy_at,
    find_ticks,
    variation_w,
)
from rejoule.traces.run import Reading

Floats = np.ndarray[Any, np.dtype[np.float64]]
Cumulative = Callable[[Floats], Floats]

MARGIN_S: Final = 60.0
"""Samples of so much time before and after a window help to time its ticks."""
AFTER_S: Final = MEAN_S + 0.1
"""So long after a window the last mean that speaks of it has been read."""
GAP_S: Final = 0.5
"""A sensor that was not heard for so long cannot be integrated over; nor can"""
SLOW_GAP_S: Final = 5.0
"""one that is asked every other second."""
SLOW: Final = ("memory_clock_mhz", "temperature_c")
PACE_S: Final = 0.1
"""Length of readings where no counter ticks."""
NORMAL_95: Final = 1.96
CAP: Final = 0x4
"""Clock event reasons: software power cap; of heat: software and hardware thermal slowdown; hardware power brake."""
THERMAL: Final = 0x20 | 0x40
BRAKE: Final = 0x80


@dataclass(frozen=True, slots=True)
class WindowEnergy:
    """What all GPUs took in a window. What is not known is ``None``; ``missing`` says why."""

    energy_j: float | None = None
    uncertainty_j: float | None = None
    """Half-width of the 95 % interval, from ticks, sampling and the window's length; not the sensor's own gain."""
    source: str | None = None
    """``nvml-counter``, or ``nvml-power`` if some GPU has no counter."""
    integrated_j: float | None = None
    """From sampled power: means over a second and instants, whichever a GPU has."""
    integrated_uncertainty_j: float | None = None
    """Half-width of its 95 % interval."""
    hbm_j: float | None = None
    readings: tuple[Reading, ...] = ()
    """In seconds from the window's start."""
    cap_bound_s: float | None = None
    """How long the power cap held the clocks down, heat, a power brake: means over GPUs."""
    thermal_s: float | None = None
    brake_s: float | None = None
    limit_w: float | None = None
    """The lowest power limit in force of any GPU."""
    start_temperature_c: float | None = None
    """Of the hottest GPU."""
    end_temperature_c: float | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Gpu:
    """One GPU's energy over the window."""

    counted: tuple[Floats, Floats] | None
    """Times and joules of the counter, the window's ends included."""
    sigma_j: float
    power: Cumulative | None
    power_sigma_j: float
    missing: str | None


def measure(samples: Samples, start_s: float, end_s: float) -> WindowEnergy:
    """The window from ``start_s`` to ``end_s`` of the monotonic clock; ``samples`` reach ``MARGIN_S`` beyond it."""
    if end_s <= start_s or not samples.gpus:
        return WindowEnergy(missing=("the window holds no samples",))
    tracks, ends = samples.gpus, np.array([start_s, end_s])
    gpus = [_gpu(track, start_s, end_s) for track in tracks]
    missing = tuple(f"{t.uuid}: {g.missing}" for t, g in zip(tracks, gpus, strict=True) if g.missing is not None)
    at_s = _boundaries(gpus, start_s, end_s)
    integrated = _sum([None if g.power is None else g.power(ends) for g in gpus])
    hbm = _sum([_held(track, "hbm_w", start_s, end_s) for track in tracks], ends)
    spent = [_spent(gpu, at_s) for gpu in gpus]
    energy = None if missing or any(s is None for s in spent) else np.sum([s for s in spent if s is not None], axis=0)
    stalls = [_mean([_stall(t, column, mask, ends) for t in tracks]) for column, mask in STALLS]
    return WindowEnergy(
        energy_j=None if energy is None else float(energy[-1] - energy[0]),
        uncertainty_j=None if energy is None else NORMAL_95 * float(np.hypot.reduce([g.sigma_j for g in gpus])),
        source=None if energy is None else _source(gpus),
        integrated_j=None if integrated is None else float(np.diff(integrated)[0]),
        integrated_uncertainty_j=None
        if integrated is None
        else NORMAL_95 * float(np.hypot.reduce([g.power_sigma_j for g in gpus])),
        hbm_j=None if hbm is None else float(np.diff(hbm)[0]),
        readings=() if energy is None else _readings(tracks, at_s, [s for s in spent if s is not None], start_s, end_s),
        cap_bound_s=None if stalls[0] is None else float(np.diff(stalls[0])[0]),
        thermal_s=None if stalls[1] is None else float(np.diff(stalls[1])[0]),
        brake_s=None if stalls[2] is None else float(np.diff(stalls[2])[0]),
        limit_w=_lowest(_last(track, "limit_w", end_s) for track in tracks),
        start_temperature_c=_highest(_last(track, "temperature_c", start_s) for track in tracks),
        end_temperature_c=_highest(_last(track, "temperature_c", end_s) for track in tracks),
        missing=missing,
    )


def energy_during(readings: Sequence[Reading], stretches: Iterable[tuple[float, float]]) -> float:
    """Joules of the readings within stretches of time that do not overlap, spread evenly over each reading."""
    return _over(readings, [r.energy_j for r in readings], stretches)


def mean_during(
    readings: Sequence[Reading], value: Callable[[Reading], float | None], stretches: Sequence[tuple[float, float]]
) -> float | None:
    """Mean over time of a value of the readings within stretches; ``None`` where some reading lacks it."""
    values = [value(r) for r in readings]
    known = [v * (r.end_s - r.start_s) for r, v in zip(readings, values, strict=True) if v is not None]
    length_s = sum(end - start for start, end in stretches)
    return _over(readings, known, stretches) / length_s if length_s > 0 and len(known) == len(values) > 0 else None


def union(stretches: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The time that is in any of the stretches, as stretches in order that do not overlap."""
    found: list[tuple[float, float]] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


STALLS: Final = (("cap_ns", CAP), ("thermal_ns", THERMAL), ("brake_ns", BRAKE))


def _gpu(track: Track, start_s: float, end_s: float) -> _Gpu:
    power = _power(track, start_s, end_s)
    power_j, power_sigma_j = (None, 0.0) if power is None else power
    ticks = find_ticks(track)

    def known(counted: tuple[Floats, Floats] | None, sigma_j: float) -> _Gpu:
        return _Gpu(counted, sigma_j, power_j, power_sigma_j, None)

    def unknown(missing: str) -> _Gpu:
        return _Gpu(None, 0.0, power_j, power_sigma_j, missing)

    if not len(track.records) or track.at_s[-1] < end_s - GAP_S:
        return unknown("the sampler ended before the window")
    lost = track.at_s[track.records["lost"] == 1]
    if ((lost >= start_s) & (lost <= end_s)).any():
        return unknown("it gave no answer for a part of the window: it was lost")
    if ticks is None:
        if power_j is None:
            return unknown("neither its energy counter nor its power can be read")
        return known(None, power_sigma_j)
    counted = _counted(track, ticks, start_s, end_s)
    if isinstance(counted, str):
        return unknown(counted)
    times, joules, sigma_j = counted
    return known((times, joules), sigma_j)


def _power(track: Track, start_s: float, end_s: float) -> tuple[Cumulative, float] | None:
    """The integral of power and its standard deviation over the window; ``None`` if power was silent in it."""
    told = [column for column in ("power_w", "average_w") if _span(track, column, start_s, end_s) is not None]
    power_j = shape(track) if told else None
    if power_j is None:
        return None
    whole_j = float(np.diff(power_j(np.array([start_s, end_s])))[0])
    return power_j, integral_sigma_j(track, start_s, end_s, whole_j)


def _counted(track: Track, ticks: Ticks, start_s: float, end_s: float) -> tuple[Floats, Floats, float] | str:
    if broken_between(ticks, start_s, end_s):
        return "its energy counter was reset within the window"
    first, last = (energy_at(ticks, at_s, variation_w(track, ticks, at_s)) for at_s in (start_s, end_s))
    if isinstance(first, str):
        return first
    if isinstance(last, str):
        return last
    inside = (ticks.at_s > start_s) & (ticks.at_s < end_s)
    times = np.concatenate([[start_s], ticks.at_s[inside], [end_s]])
    joules = np.concatenate([[first.energy_j], ticks.energy_j[inside], [last.energy_j]])
    return times, joules, float(np.hypot(first.sigma_j, last.sigma_j))


def _boundaries(gpus: Sequence[_Gpu], start_s: float, end_s: float) -> Floats:
    """The ticks of the first GPU that has a counter, and the window's ends."""
    for gpu in gpus:
        if gpu.counted is not None:
            return gpu.counted[0]
    return np.linspace(start_s, end_s, max(2, round((end_s - start_s) / PACE_S) + 1))


def _spent(gpu: _Gpu, at_s: Floats) -> Floats | None:
    if gpu.counted is not None:
        return np.interp(at_s, *gpu.counted)
    return None if gpu.power is None else gpu.power(at_s)


def _source(gpus: Sequence[_Gpu]) -> str:
    return "nvml-power" if any(g.counted is None for g in gpus) else "nvml-counter"


def _readings(
    tracks: Sequence[Track], at_s: Floats, spent: Sequence[Floats], start_s: float, end_s: float
) -> tuple[Reading, ...]:
    def means(column: str) -> list[Floats | None]:
        found = [_held(track, column, start_s, end_s) for track in tracks]
        return [None if held is None else np.diff(held(at_s)) / np.diff(at_s) for held in found]

    def shares(column: str, mask: int) -> Floats | None:
        held = _mean([_stall(track, column, mask, at_s) for track in tracks])
        return None if held is None else np.clip(np.diff(held) / np.diff(at_s), 0, 1)

    hottest = [m for m in means("temperature_c") if m is not None]
    cap, heat, brake = (shares(column, mask) for column, mask in STALLS)
    told = [t for t in (heat, brake) if t is not None]
    columns = (
        _mean(means("sm_clock_mhz")),
        _mean(means("memory_clock_mhz")),
        np.max(hottest, axis=0) if hottest else None,
        _sum(means("hbm_w")),
        cap,
        np.minimum(np.sum(told, axis=0), 1) if told else None,
    )
    each = np.maximum(np.diff(np.stack(spent), axis=1), 0)
    joules = each.sum(axis=0)
    edges = (at_s - start_s).tolist()
    rows = zip(*([None] * len(joules) if column is None else column.tolist() for column in columns), strict=True)
    found = [
        Reading(start, end, energy_j, clock, memory, celsius, hbm_w, bound, slowed)
        for start, end, energy_j, (clock, memory, celsius, hbm_w, bound, slowed) in zip(
            edges, edges[1:], joules.tolist(), rows, strict=False
        )
    ]
    if len(spent) < 2:
        return tuple(found)
    return tuple(replace(r, gpus_j=tuple(mine)) for r, mine in zip(found, each.T.tolist(), strict=True))


def _held(track: Track, column: str, start_s: float, end_s: float) -> Cumulative | None:
    """The integral over time of a column whose values hold until the next; ``None`` if it was silent for too long."""
    span = _span(track, column, start_s, end_s)
    if span is None:
        return None
    times, values = span
    # The first value also stands for what little of the window lies before it.
    knots = np.concatenate([[min(start_s, times[0])], times[1:], [max(end_s, times[-1])]])
    total = np.concatenate([[0.0], np.cumsum(values * np.diff(knots))])
    return lambda at_s: np.interp(at_s, knots, total)


def _span(track: Track, column: str, start_s: float, end_s: float) -> tuple[Floats, Floats] | None:
    """Times and values that a column had in the window; ``None`` if it was silent for too long."""
    values = track.values(column)
    known = ~np.isnan(values)
    times, values = track.at_s[known], values[known]
    first = max(0, int(np.searchsorted(times, start_s, "right")) - 1)
    times, values = times[first:], values[first:]
    last = int(np.searchsorted(times, end_s, "right"))
    times, values = times[:last], values[:last]
    gap_s = SLOW_GAP_S if column in SLOW else GAP_S
    if not len(times) or np.diff(times, prepend=min(start_s, times[0]), append=end_s).max() > gap_s:
        return None
    return times, values


def _stall(track: Track, column: str, mask: int, at_s: Floats) -> Floats | None:
    """Seconds for which the clocks were held down, up to each instant: from the counter, or else from the reasons."""
    count = track.values(column) / 1e9
    known = ~np.isnan(count)
    if known.sum() > 1:
        grown = np.concatenate([[0.0], np.cumsum(np.maximum(np.diff(count[known]), 0))])
        return np.asarray(np.interp(at_s, track.at_s[known], grown))
    reasons = track.records["reasons"]
    known = np.asarray(reasons != -1)
    if known.sum() < 2:
        return None
    times = track.at_s[known]
    bound = (reasons[known][:-1] & mask != 0) * np.diff(times)
    return np.asarray(np.interp(at_s, times, np.concatenate([[0.0], np.cumsum(bound)])))


def _over(readings: Sequence[Reading], amounts: Sequence[float], stretches: Iterable[tuple[float, float]]) -> float:
    if not readings:
        return 0.0
    knots = [readings[0].start_s, *(r.end_s for r in readings)]
    total = np.concatenate([[0.0], np.cumsum(amounts)])
    return float(sum(np.interp(end, knots, total) - np.interp(start, knots, total) for start, end in stretches))


def _sum(parts: Sequence[Any], at_s: Floats | None = None) -> Floats | None:
    if any(part is None for part in parts):
        return None
    return np.asarray(np.sum([part if at_s is None else part(at_s) for part in parts], axis=0))


def _mean(parts: Sequence[Floats | None]) -> Floats | None:
    total = _sum(parts)
    return None if total is None else np.asarray(total / len(parts))


def _last(track: Track, column: str, at_s: float) -> float | None:
    values = track.values(column)
    known = np.flatnonzero((track.at_s <= at_s) & ~np.isnan(values))
    return float(values[known[-1]]) if len(known) else None


def _lowest(values: Iterable[float | None]) -> float | None:
    return min((v for v in values if v is not None), default=None)


def _highest(values: Iterable[float | None]) -> float | None:
    return max((v for v in values if v is not None), default=None)

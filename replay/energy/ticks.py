"""What an energy counter that ticks says of the energy at any instant, and how surely.

A GPU's counter holds still and then, every 20 to 100 ms, takes a new value: the energy up to that tick. A tick lies
somewhere between two reads; between ticks only bounds are known. Where the counter is not read at every tick, sampled
power tells how the energy between two known ticks was spread over those in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rejoule.replay.energy.pace import find_pace
from rejoule.replay.energy.power import noise_w, renewed, shape
from rejoule.replay.energy.samples import Track

Floats = np.ndarray[Any, np.dtype[np.float64]]

CHUNK: Final = 64
"""Ticks over which the counter is taken to keep one pace."""
FEWEST: Final = 16
SINGLE: Final = 0.4
"""Two reads closer than this share of a period have one tick between them, and tell well enough which."""
NEAR_S: Final = 1.0
"""How far around an instant its power readings tell how much power varies there."""
DOUBT: Final = 0.7
"""Of a tick's energy made from power, for each of the readings' own jumps: holds 95 in 100 on an H200."""
STEP_DOUBT: Final = 0.15
"""Share of the way between the bounds by which even the clearest step may be off: no load sets in at once."""
QUANTUM_J: Final = 0.001
"""The counter's unit."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """The ticks of one GPU's counter."""

    at_s: Floats
    half_width_s: Floats
    """Each tick lies within so much of ``at_s``."""
    energy_j: Floats
    sigma_j: Floats
    """Standard deviation; 0 where the counter was read."""
    broken_s: Floats
    """When the counter went back, or the GPU gave no answer: nothing is known across such an instant."""

    @property
    def power_w(self) -> Floats:
        """Mean power of each stretch between two ticks."""
        return np.diff(self.energy_j) / np.diff(self.at_s)


@dataclass(frozen=True, slots=True)
class At:
    """The counter's energy at an instant."""

    energy_j: float
    sigma_j: float
    """Standard deviation."""


def find_ticks(track: Track) -> Ticks | None:
    """The ticks in a GPU's reads; ``None`` if its counter never answered."""
    energy = track.values("energy_mj") / 1000
    lost = np.asarray(track.records["lost"] == 1)
    known = np.flatnonzero(~np.isnan(energy))
    if not len(known):
        return None
    step = np.diff(energy[known])
    before, after = known[:-1][step > 0], known[1:][step > 0]
    begun_s, end_s = track.at_s, track.records["end_ns"] / 1e9
    broken_s = np.sort(np.concatenate([begun_s[lost], begun_s[known[1:][step < 0]]]))
    low, high = _bracketed(track, begun_s, end_s, before, after)
    if track.tick_s is not None:
        single = high - low < SINGLE * track.tick_s
        return _sparse(track, low[single], high[single], broken_s)
    at_s, half_s = _paced(low, high)
    return Ticks(at_s, half_s, energy[after], np.zeros(len(after)), broken_s)


def energy_at(ticks: Ticks, at_s: float, variation_w: float) -> At | str:
    """The energy at ``at_s``, or in words why it is not known.

    With rising power the energy between two ticks is at most the straight line between them, and at least the two lines
    on which power goes on as before and comes in as after; with falling power the other way round. The lines are what
    one step of power gives, and the more it looks like one, steady before and after, the nearer to them the energy is
    taken to be; else anywhere between the bounds with equal chance. ``variation_w`` is how much power varies faster
    than the counter ticks.
    """
    times = ticks.at_s
    if not len(times):
        return "when its energy counter ticked cannot be told from its reads: leave the sampler a core"
    k = int(np.searchsorted(times, at_s, "right")) - 1
    if k < 0:
        return "its energy counter had not ticked before the window began"
    if k + 1 >= len(times):
        return "its energy counter did not tick after the window ended"
    if ((ticks.broken_s >= times[k]) & (ticks.broken_s <= times[k + 1])).any():
        return "it gave no answer at an end of the window"
    length_s, done_s = times[k + 1] - times[k], at_s - times[k]
    share = done_s / length_s
    here_w = (ticks.energy_j[k + 1] - ticks.energy_j[k]) / length_s
    before_w = _slope(ticks, k - 1) if k > 0 else here_w
    after_w = _slope(ticks, k + 1) if k + 2 < len(times) else here_w
    unsteady_w = abs(before_w - _slope(ticks, k - 2)) if k > 1 else 0.0
    unsteady_w += abs(after_w - _slope(ticks, k + 2)) if k + 3 < len(times) else 0.0
    straight = ticks.energy_j[k] + share * length_s * here_w
    carried_on = ticks.energy_j[k] + before_w * done_s
    coming_in = ticks.energy_j[k + 1] - after_w * (length_s - done_s)
    if before_w <= here_w <= after_w:
        bent = max(carried_on, coming_in)
    elif before_w >= here_w >= after_w:
        bent = min(carried_on, coming_in)
    else:
        bent = straight
    # A peak or a dip of power may lie anywhere in the interval.
    turn_j = 0.0 if bent != straight else share * (1 - share) * length_s * max(
        abs(here_w - before_w), abs(here_w - after_w)
    )  # fmt: skip
    like_step = max(0.5, 1 - unsteady_w / max(abs(after_w - before_w), 1e-9))
    bound_j = (bent - straight) * max(1 - like_step, STEP_DOUBT)
    half = ticks.half_width_s
    tick_j = here_w * np.hypot((1 - share) * half[k], share * half[k + 1])
    fast_j = variation_w * length_s * np.sqrt(share * (1 - share)) / 2
    told_j = (1 - share) * ticks.sigma_j[k] + share * ticks.sigma_j[k + 1]
    variance = bound_j**2 / 3 + turn_j**2 / 3 + tick_j**2 / 3 + fast_j**2 + told_j**2 + QUANTUM_J**2 / 12
    return At(float(straight + (bent - straight) * like_step), float(np.sqrt(variance)))


def broken_between(ticks: Ticks, start_s: float, end_s: float) -> bool:
    """Whether the counter was reset, or the GPU gave no answer, between two instants."""
    return bool(((ticks.broken_s >= start_s) & (ticks.broken_s <= end_s)).any())


def variation_w(track: Track, ticks: Ticks, at_s: float) -> float:
    """How much power varies within ticks around an instant: a robust standard deviation of instant readings."""
    times, power_w = renewed(track, "power_w")
    near = np.abs(times - at_s) <= NEAR_S
    times, power_w = times[near], power_w[near]
    if len(times) < 2 or len(ticks.at_s) < 2:
        return 0.0
    k = np.clip(np.searchsorted(ticks.at_s, times, "right") - 1, 0, len(ticks.at_s) - 2)
    residual = power_w - ticks.power_w[k]
    within_w = float(1.4826 * np.median(np.abs(residual - np.median(residual))))
    if track.tick_s is None:
        return within_w
    # Ticks that were made from these readings are near to them whatever happened.
    return max(within_w, float(1.4826 * np.median(np.abs(np.diff(power_w))) / np.sqrt(2)))


def _slope(ticks: Ticks, k: int) -> float:
    return float((ticks.energy_j[k + 1] - ticks.energy_j[k]) / (ticks.at_s[k + 1] - ticks.at_s[k]))


def _sparse(track: Track, low_s: Floats, high_s: Floats, broken_s: Floats) -> Ticks:
    """All ticks from the first to the last that a read told of; ``low_s`` and ``high_s`` bracket some of them."""
    pace = find_pace(low_s, high_s, track.tick_s) if len(low_s) > 1 else None
    if pace is None:
        return _no_ticks(broken_s)
    energy = track.values("energy_mj") / 1000
    known = ~np.isnan(energy)
    begun_s, end_s, energy = track.at_s[known], track.records["end_ns"][known] / 1e9, energy[known]
    doubt = pace.reach_at(begun_s) / pace.period_s
    first, last = np.floor(pace.number(begun_s) - doubt), np.floor(pace.number(end_s) + doubt)
    number, told_j = _told(first, last, energy)
    if not len(number):
        return _no_ticks(broken_s)
    every = np.arange(number[0], number[-1] + 1)
    at_s = pace.at_s(every)
    energy_j, sigma_j = _filled(track, number, told_j, every, at_s)
    return Ticks(at_s, pace.reach_at(at_s), energy_j, sigma_j, broken_s)


def _told(first: Floats, last: Floats, energy_j: Floats) -> tuple[Floats, Floats]:
    """Which ticks reads told, and their energies, if each read saw one of the ticks from ``first`` to ``last``.

    Of two ticks it saw the earlier if it told less than the later one has, by a read that saw no other; and likewise.
    """
    clear = first == last
    number, place = np.unique(last[clear], return_index=True)
    told_j = energy_j[clear][place]
    if not len(number):
        return number, told_j
    either = last - first == 1
    first, last, energy_j = first[either], last[either], energy_j[either]
    before, after = (np.minimum(np.searchsorted(number, n), len(number) - 1) for n in (first, last))
    earlier = (number[after] == last) & (energy_j < told_j[after])
    later = (number[before] == first) & (energy_j > told_j[before])
    number = np.concatenate([number, first[earlier], last[later]])
    number, place = np.unique(number, return_index=True)
    return number, np.concatenate([told_j, energy_j[earlier], energy_j[later]])[place]


def _no_ticks(broken_s: Floats) -> Ticks:
    nothing = np.empty(0)
    return Ticks(nothing, nothing, nothing, nothing, broken_s)


def _filled(track: Track, number: Floats, energy_j: Floats, every: Floats, at_s: Floats) -> tuple[Floats, Floats]:
    """Energy at every tick, and its standard deviation: between known ones as power went, scaled to the difference."""
    power_j = shape(track)
    spent_j = np.asarray(at_s if power_j is None else power_j(at_s))
    known = (number - every[0]).astype(np.int64)
    before = np.clip(np.searchsorted(number, every, "right") - 1, 0, max(0, len(number) - 2))
    after = np.minimum(before + 1, len(number) - 1)
    whole_j = spent_j[known[after]] - spent_j[known[before]]
    by_time = (every - number[before]) / np.maximum(number[after] - number[before], 1)
    by_power = (spent_j - spent_j[known[before]]) / np.where(whole_j > 0, whole_j, 1)
    told_j = energy_j[before] + np.where(whole_j > 0, by_power, by_time) * (energy_j[after] - energy_j[before])
    missed = np.maximum(number[after] - number[before], 1) * by_time * (1 - by_time)
    jumps_w = noise_w(track, at_s[known])[before] if len(number) > 1 else 0.0
    period_s = (at_s[-1] - at_s[0]) / max(1, len(at_s) - 1)
    sigma_j = DOUBT * jumps_w * period_s * np.sqrt(np.maximum(missed, 0))
    return told_j, sigma_j


def _bracketed(track: Track, begun_s: Floats, end_s: Floats, before: Any, after: Any) -> tuple[Floats, Floats]:
    """After the read that still had the old value and before the end of the one that had the new.

    The driver's timestamp says when the value was true: that of the old value is not after the tick, that of the new
    one not before it. Where it stands still as long as the value does, it is the tick's own.
    """
    low, high = begun_s[before], end_s[after]
    epoch_us, wall_us = track.values("epoch_us"), track.values("wall_us")
    told_s = begun_s + (wall_us - epoch_us) / 1e6
    energy = track.records["energy_mj"]
    still = np.flatnonzero(np.diff(energy) == 0)
    own = len(still) >= FEWEST and np.mean(np.diff(wall_us)[still] == 0) > 0.9
    told_low, told_high = told_s[before], told_s[after]
    if own:
        told_low = np.maximum(low, told_high - 1e-3)
    fits = (told_high > low) & (told_high <= high + 1e-4) & (told_low < told_high)
    return np.where(fits, np.maximum(low, told_low), low), np.where(fits, np.minimum(high, told_high), high)


def _paced(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Times and half-widths of ticks that keep a pace, from their brackets: one line through each chunk of them."""
    at_s, half_s = (low + high) / 2, (high - low) / 2
    for begin in range(0, len(at_s), CHUNK):
        end = min(begin + CHUNK, len(at_s))
        begin = max(0, end - CHUNK)
        if end - begin < FEWEST:
            break
        middle, half = (low[begin:end] + high[begin:end]) / 2, (high[begin:end] - low[begin:end]) / 2
        pace = find_pace(low[begin:end], high[begin:end])
        if pace is None:
            continue
        paced = pace.at_s(np.round(pace.number(middle)))
        new_low = np.maximum(low[begin:end], paced - pace.reach_s)
        new_high = np.minimum(high[begin:end], paced + pace.reach_s)
        better = (new_high - new_low > 0) & ((new_high - new_low) / 2 < half)
        at_s[begin:end] = np.where(better, (new_low + new_high) / 2, at_s[begin:end])
        half_s[begin:end] = np.where(better, (new_high - new_low) / 2, half_s[begin:end])
    return at_s, half_s

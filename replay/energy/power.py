"""How a GPU's power went, from its sensors: means over a second, and instants, which see a quarter of the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from rejoule.replay.energy.samples import Track

Floats = np.ndarray[Any, np.dtype[np.float64]]
Cumulative = Callable[[Floats], Floats]

STALE_S: Final = 0.12
"""The sensors are renewed every 100 ms; a value that stands for longer was renewed and is the same."""
WINDOW_S: Final = 0.025
"""Of an instant's reading (Yang et al., "Part-time Power Measurements", arXiv 2312.02741)."""
MEAN_S: Final = 1.0
"""What a mean covers: on an H200 a box of 1.00 s over the counter's energy (by least squares, all weights equal)."""
LATE_S: Final = 0.007
"""So long before a mean is renewed its second has ended (measured on an H200)."""
SLOT_S: Final = 0.05
SLOTS: Final = round(MEAN_S / SLOT_S)
ROUNDS: Final = 50
FAR_S: Final = 10.0
BLUR_S: Final = 0.04
"""Of the power's jumps between instants near an end, how much of their energy may be on its wrong side; and"""
GAIN: Final = 0.001
"""how far means and the counter differ. Together these hold 95 in 100 windows of 2 to 60 s on H200s."""
NEAR_S: Final = 2.0
STEP_S: Final = 0.02
"""Of a step at an end of a window: a fifth of the time between instants."""


def shape(track: Track) -> Cumulative | None:
    """The integral of power over time; ``None`` where the GPU tells no power.

    From means alone each speaks of its middle, and from instants alone power goes straight from one to the next.
    From both, see ``restored``.
    """
    instant_s, instant_w = renewed(track, "power_w")
    mean_s, mean_w = renewed(track, "average_w")
    known_s = np.concatenate([instant_s, mean_s])
    if not len(known_s):
        return None
    start_s = float(known_s.min()) - MEAN_S
    ends_s = start_s + SLOT_S * np.arange(1, int((known_s.max() - start_s) / SLOT_S) + 2)
    middle_s = ends_s - SLOT_S / 2
    if not len(instant_s):
        power_w = np.interp(middle_s + LATE_S + MEAN_S / 2, mean_s, mean_w)
    else:
        power_w = np.interp(middle_s + WINDOW_S / 2, instant_s, instant_w)
        if has_means(track):
            power_w = restored(power_w, np.interp(ends_s + LATE_S, mean_s, mean_w))
    knots_s = np.concatenate([[start_s - FAR_S, start_s], ends_s, ends_s[-1:] + FAR_S])
    power_w = np.concatenate([power_w[:1], power_w, power_w[-1:]])
    total_j = np.concatenate([[0.0], np.cumsum(power_w * np.diff(knots_s))])
    return lambda at_s: np.asarray(np.interp(at_s, knots_s, total_j))


def restored(seen_w: Floats, mean_w: Floats) -> Floats:
    """Power in slots of ``SLOT_S`` from what instants saw in each, and the mean of a second at the end of each.

    A mean M of the last T seconds is exact: E(t) - E(t - T) = T M(t), so energy between two times a whole number of
    seconds apart is known without looking at instants. They are needed for the rest only, and begin as the answer p;
    then each round adds to every slot the mean of what is missing from the seconds that hold it, p + B'(M - B p) with
    B the running mean: least squares from that start (Landweber, Am. J. Math. 73, 1951). What no mean can tell, how
    power goes within a second that repeats, stays as instants saw it.
    """
    power_w = seen_w
    for _ in range(ROUNDS):
        missing_w = mean_w - _last_mean(power_w)
        power_w = power_w + _last_mean(missing_w[::-1])[::-1]
    return power_w


def has_means(track: Track) -> bool:
    """Whether the GPU tells means over a second that are not its instants by another name."""
    average_w, power_w = track.values("average_w"), track.values("power_w")
    return bool((average_w != power_w)[~np.isnan(average_w) & ~np.isnan(power_w)].any())


def renewed(track: Track, column: str) -> tuple[Floats, Floats]:
    """When a power changed, halfway between two reads, and what it then was in watts.

    One that stands still for too long counts as renewed by each read.
    """
    values = track.values(column)
    known = ~np.isnan(values)
    times, values = track.at_s[known], values[known]
    if len(times) < 2:
        return times, values
    new = np.concatenate([[True], np.diff(values) != 0])
    since_s = times - times[np.maximum.accumulate(np.where(new, np.arange(len(times)), 0))]
    new |= since_s > STALE_S
    halfway_s = (times + np.concatenate([times[:1], times[:-1]])) / 2
    return halfway_s[new], values[new]


def noise_w(track: Track, edges_s: Floats) -> Floats:
    """Between each two of the times: by how much readings of instant power jump, root mean square."""
    times, power_w = renewed(track, "power_w")
    squares = np.concatenate([[0.0], np.cumsum(np.diff(power_w, prepend=power_w[:1]) ** 2)])
    place = np.searchsorted(times - WINDOW_S / 2, edges_s)
    return np.sqrt(np.diff(squares[place]) / np.maximum(np.diff(place), 1))


def integral_sigma_j(track: Track, start_s: float, end_s: float, energy_j: float) -> float:
    """Standard deviation of a window's ``shape``, whose energy is ``energy_j``.

    A step of power at an end of the window is seen by the readings on its both sides only. Beyond that, with means just
    what is near the ends is uncertain. From instants alone each change of the reading came at any time since the
    reading before: its step is wrong for half of that time at most, and loads that beat with the readings get there.
    """
    instant_s, instant_w = renewed(track, "power_w")
    if not len(instant_s):
        instant_s, instant_w = renewed(track, "average_w")
    ends_s = np.array([start_s, end_s])
    steps_w = np.interp(ends_s + STALE_S, instant_s, instant_w) - np.interp(ends_s - STALE_S, instant_s, instant_w)
    if has_means(track):
        jumps_w = [noise_w(track, np.array([at_s - NEAR_S, at_s + NEAR_S]))[0] for at_s in ends_s]
        inside_j = BLUR_S * np.array(jumps_w)
    else:
        inside = (instant_s >= start_s - STALE_S) & (instant_s <= end_s + STALE_S)
        inside_j = np.diff(instant_w[inside]) * np.diff(instant_s[inside]) / 2
    return float(np.linalg.norm([*(STEP_S * steps_w), *inside_j, GAIN * energy_j]))


def _last_mean(values: Floats) -> Floats:
    """The mean of each value and those of a second before it; the first stands for all before it."""
    total = np.cumsum(np.concatenate([[0.0], np.full(SLOTS - 1, values[0]), values]))
    return np.asarray((total[SLOTS:] - total[:-SLOTS]) / SLOTS)

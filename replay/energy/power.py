"""How a GPU's power went, from its sensors: readings of an instant, taken when they were new."""

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
FAR_S: Final = 10.0


def renewed(track: Track) -> tuple[Floats, Floats]:
    """Times and watts of instant power: each reading in the middle of what it saw.

    A read is the first of a new reading if any of the powers changed since the one before, or nothing did for too long.
    The reading was renewed halfway between the two reads.
    """
    power_w, average_w = track.values("power_w"), track.values("average_w")
    known = ~np.isnan(power_w)
    times, power_w, average_w = track.at_s[known], power_w[known], average_w[known]
    if len(times) < 2:
        return times, power_w
    new = np.concatenate([[True], (np.diff(power_w) != 0) | (np.diff(average_w) > 0) | (np.diff(average_w) < 0)])
    since_s = times - times[np.maximum.accumulate(np.where(new, np.arange(len(times)), 0))]
    new |= since_s > STALE_S
    middle_s = (times + np.concatenate([times[:1], times[:-1]])) / 2 - WINDOW_S / 2
    return middle_s[new], power_w[new]


def shape(track: Track) -> Cumulative | None:
    """The integral of instant power over time, straight from one reading to the next; ``None`` without any."""
    times, power_w = renewed(track)
    if not len(times):
        return None
    times = np.concatenate([[times[0] - FAR_S], times, [times[-1] + FAR_S]])
    power_w = np.concatenate([power_w[:1], power_w, power_w[-1:]])
    total = np.concatenate([[0.0], np.cumsum((power_w[1:] + power_w[:-1]) / 2 * np.diff(times))])

    def energy_j(at_s: Floats) -> Floats:
        i = np.clip(np.searchsorted(times, at_s, "right") - 1, 0, len(times) - 2)
        since_s = at_s - times[i]
        slope = (power_w[i + 1] - power_w[i]) / (times[i + 1] - times[i])
        return np.asarray(total[i] + power_w[i] * since_s + slope * since_s**2 / 2)

    return energy_j


def noise_w(track: Track, edges_s: Floats) -> Floats:
    """Between each two of the times: by how much readings of instant power jump, root mean square."""
    times, power_w = renewed(track)
    squares = np.concatenate([[0.0], np.cumsum(np.diff(power_w, prepend=power_w[:1]) ** 2)])
    place = np.searchsorted(times, edges_s)
    return np.sqrt(np.diff(squares[place]) / np.maximum(np.diff(place), 1))

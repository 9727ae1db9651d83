"""How an H200's clock comes back after its power limit held it down: python -m benchmarks.gpu.clock_recovery [FILE …].

Of files of samples, compressed or not; without any, those that ``benchmarks/h200`` keeps. Each instant reading of
power, which is renewed every 100 ms, is taken with the clock read with it and the clock 100 ms later: median change, by
power and by clock, and of how many readings. Nothing was capped or locked: the limit is the GPU's own 700 W.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.gpu.packed import unpacked
from benchmarks.gpu.sensors import row
from benchmarks.gpu.tables import DATA

from rejoule.replay.energy.samples import Track, read_samples

Floats = np.ndarray[Any, np.dtype[np.float64]]

RENEWED_S: Final = (0.06, 0.16)
"""Apart are two readings of which the second is the next one: the period is 100 ms, read every 23 or 47."""
WATTS: Final = (300, 520, 620, 690, 720, 900)
CLOCKS_MHZ: Final = (1300, 1500, 1650, 1800, 1950)
FEWEST: Final = 20


def changes(track: Track) -> Floats:
    """Rows of power in watts, clock in MHz, and the clock's change until power's next reading."""
    power_w, clock_mhz = track.values("power_w"), track.values("sm_clock_mhz")
    new = np.flatnonzero(np.diff(power_w, prepend=np.nan) != 0)
    new = new[~np.isnan(power_w[new]) & ~np.isnan(clock_mhz[new])]
    apart_s = np.diff(track.at_s[new])
    next_one = (apart_s > RENEWED_S[0]) & (apart_s < RENEWED_S[1])
    told = np.column_stack([power_w[new][:-1], clock_mhz[new][:-1], np.diff(clock_mhz[new])])
    return told[next_one]


def table(found: Floats) -> Iterator[str]:
    """Median change in MHz and how many readings, as markdown lines."""
    bands = [*pairwise(CLOCKS_MHZ)]
    yield row("watts", *(f"{low} to {high} MHz" for low, high in bands))
    yield row("--:", *("--:" for _ in bands))
    for low_w, high_w in pairwise(WATTS):
        cells = []
        for low, high in bands:
            within = (found[:, 0] >= low_w) & (found[:, 0] < high_w) & (found[:, 1] >= low) & (found[:, 1] < high)
            enough = within.sum() >= FEWEST
            cells.append(f"{np.median(found[within, 2]):+.0f} ({within.sum()})" if enough else "–")
        yield row(f"{low_w} to {high_w}", *cells)


def tracks(files: Sequence[Path]) -> Iterator[Track]:
    for file in files:
        with unpacked(file) as plain:
            yield from read_samples(plain).gpus


def main(words: Sequence[str]) -> None:
    files = [Path(word) for word in words] or sorted(DATA.rglob("*.samples.xz"))
    found = [(track.uuid, changes(track)) for track in tracks(files)]
    print(f"{len(files)} files of {len({uuid for uuid, _ in found})} cards\n")
    print("\n".join(table(np.concatenate([each for _, each in found]))))


if __name__ == "__main__":
    main(sys.argv[1:])

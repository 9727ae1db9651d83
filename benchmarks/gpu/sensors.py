"""What real sensors do, from what the sampler wrote: python -m benchmarks.gpu.sensors SAMPLES [NAME=START:END …].

Times are seconds from the first sample; a name with two of them gets a row of its own (``bare=0:60 busy=120:180``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rejoule.replay.energy.samples import Samples, Track, read_samples
from rejoule.replay.energy.ticks import Ticks, find_ticks
from rejoule.replay.energy.window import AFTER_S, MARGIN_S, WindowEnergy, measure

COLUMNS = ("energy_mj", "power_w", "average_w", "hbm_w", "limit_w", "sm_clock_mhz", "memory_clock_mhz",
           "temperature_c", "reasons", "cap_ns", "thermal_ns", "brake_ns")  # fmt: skip

SLIDE_S = 1.0
"""Between the starts of windows that are compared."""


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def spread(values: Any, scale: float = 1.0, form: str = ".2f") -> str:
    """Median, and the 1st and 99th percentile."""
    low, middle, high = (f"{v * scale:{form}}" for v in np.quantile(values, [0.01, 0.5, 0.99]))
    return f"{middle} ({low} to {high})"


def sensors(track: Track) -> Iterator[str]:
    """Each column: how often it answered, and how long its values stand."""
    yield row("sensor", "answered", "distinct values", "interval between changes, ms")
    yield row("---", "--:", "--:", "--:")
    for column in COLUMNS:
        values = track.values(column)
        known = ~np.isnan(values)
        times, values = track.at_s[known], values[known]
        changes = times[1:][np.diff(values) != 0]
        interval = spread(np.diff(changes), 1e3, ".1f") if len(changes) > 10 else "-"
        yield row(column, f"{known.mean():.1%}", len(np.unique(values)), interval)


def sampler(samples: Samples) -> Iterator[str]:
    """What sampling cost, and how well it kept its pace."""
    track = samples.gpus[0]
    reads_s = np.concatenate([(t.records["end_ns"] - t.records["host_ns"]) / 1e9 for t in samples.gpus])
    yield row("sampler", "")
    yield row("---", "--:")
    yield row("length, s", f"{track.at_s[-1] - track.at_s[0]:.1f}")
    yield row("reads", samples.count)
    yield row("period, ms", spread(np.diff(track.at_s), 1e3))
    yield row("one read, ms", spread(reads_s, 1e3))
    yield row("late, ms", spread(track.records["late_ns"] / 1e6))
    yield row("CPU, share of one core", "-" if samples.cpu_share is None else f"{samples.cpu_share:.3%}")
    stamps = np.diff(track.records["wall_us"])
    counts = track.records["energy_mj"]
    still = (np.diff(counts) == 0) & (counts[1:] >= 0)
    yield row("timestamp stands still with the counter", f"{np.mean(stamps[still] == 0):.1%}" if still.any() else "-")


def ticks_of(ticks: Ticks) -> Iterator[str]:
    """The counter's pace and how finely its ticks are timed."""
    yield row("counter", "")
    yield row("---", "--:")
    yield row("tick interval, ms", spread(np.diff(ticks.at_s), 1e3))
    yield row("tick known to ±, ms", spread(ticks.half_width_s, 1e3))
    yield row("step, J", spread(np.diff(ticks.energy_j), 1, ".3f"))
    steps_mj = np.unique(np.round(np.diff(ticks.energy_j) * 1000).astype(np.int64))
    yield row("greatest common divisor of steps, mJ", int(np.gcd.reduce(steps_mj)))
    yield row("breaks", len(ticks.broken_s))


def windows(samples: Samples, lengths_s: Sequence[float]) -> Iterator[str]:
    """Counter against integrated power over sliding windows: from means and instants together, and from instants."""
    yield row("window, s", "windows", "uncertainty, %", "power / counter − 1, %", "farthest off", "within 1 %",
              "instants / counter − 1, %")  # fmt: skip
    yield row(*["--:"] * 7)
    instants = replace(samples, gpus=tuple(instants_only(track) for track in samples.gpus))
    # What comes before the second second has no mean of its own.
    begin, end = samples.gpus[0].at_s[0] + 2, samples.gpus[0].at_s[-1] - AFTER_S
    for length_s in lengths_s:
        found = [
            (between(samples, at, at + length_s), between(instants, at, at + length_s))
            for at in np.arange(begin, end - length_s, SLIDE_S)
        ]
        known = [
            (w.energy_j, w.uncertainty_j, w.integrated_j, other.integrated_j)
            for w, other in found
            if w.energy_j and w.integrated_j and other.integrated_j
        ]
        if known:
            energy, sure, power, instant = np.array(known, dtype=float).T
            off = power / energy - 1
            yield row(f"{length_s:g}", len(known), spread(sure / energy, 100, ".3f"), spread(off, 100),
                      f"{abs(off).max():.2%}", f"{np.mean(abs(off) <= 0.01):.1%}",
                      spread(instant / energy - 1, 100))  # fmt: skip


def instants_only(track: Track) -> Track:
    """The same GPU without means over a second."""
    records = track.records.copy()
    records["average_w"] = np.nan
    return replace(track, records=records)


def between(samples: Samples, start_s: float, end_s: float) -> WindowEnergy:
    """The window, from no more samples than it needs."""
    return measure(samples.between(start_s - MARGIN_S, end_s + MARGIN_S), start_s, end_s)


def labelled(samples: Samples, words: Sequence[str]) -> Iterator[str]:
    """One row for each stretch that was named."""
    yield row("stretch", "s", "mean W", "± W", "integrated W", "HBM W", "cap bound, s", "heat, s", "°C")
    yield row("---", *["--:"] * 8)
    origin_s = float(samples.gpus[0].at_s[0])
    for word in words:
        name, _, times = word.partition("=")
        start_s, end_s = (origin_s + float(t) for t in times.split(":"))
        found = between(samples, start_s, end_s)
        length_s = end_s - start_s
        watts = [None if j is None else f"{j / length_s:.2f}" for j in (
            found.energy_j, found.uncertainty_j, found.integrated_j, found.hbm_j)]  # fmt: skip
        yield row(name, f"{length_s:g}", *watts, found.cap_bound_s, found.thermal_s, found.end_temperature_c)


def main(path: Path, words: Sequence[str]) -> None:
    samples = read_samples(path)
    print(f"driver {samples.driver}\n")
    print("\n".join(sampler(samples)))
    for track in samples.gpus:
        print(f"\n{track.name} {track.uuid}\n")
        print("\n".join(sensors(track)))
        ticks = find_ticks(track)
        if ticks is not None and len(ticks.at_s) > 2:
            print("\n" + "\n".join(ticks_of(ticks)))
    print("\n" + "\n".join(windows(samples, (1, 2, 5, 10, 20, 60))))
    if words:
        print("\n" + "\n".join(labelled(samples, words)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

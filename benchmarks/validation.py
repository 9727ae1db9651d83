"""How far the simulator is from an H200: python -m benchmarks.validation [PROFILE].

Replays the four kept workloads in virtual time at the batch sizes at which they were measured, and compares with runs
that were not used to fit the profile: those of benchmarks/h200/workloads-watched (on the card of the grid), of
workloads-other-card, and of workloads (a third card, three trials, sensors not sampled). Also prints how hosts and
cards differ at the same work, and how far the grid went beyond its limit.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from statistics import mean, median, quantiles, stdev
from tempfile import TemporaryDirectory
from typing import Final

from rejoule.analysis.validate import ENERGY, Row, Validation, validate
from rejoule.replay.calibration.calibrate import write_profile
from rejoule.replay.calibration.observations import observed_steps
from rejoule.replay.engines.open import open_engine
from rejoule.replay.engines.sim import OPTIONS
from rejoule.replay.replay import replay
from rejoule.replay.sim.latency import LatencyModel
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.model import Trace
from rejoule.traces.run import Configuration, Run, configuration_key
from rejoule.traces.runs import PlannedRun, load_runs

DATA: Final = Path(__file__).parent / "h200"
PROFILE: Final = "h200-llama-3.1-8b"
BATCHES: Final = (1, 8, 64, 256)
BLOCKS: Final = 40000
MEASURED: Final = ("workloads-watched", "workloads-other-card", "workloads")
CARDS: Final = ("grid", "workloads-watched", "workloads-other-card")


def simulated(
    profile: str = PROFILE, batches: Iterable[int] = BATCHES, names: Iterable[str] | None = None
) -> list[Run]:
    """The kept workloads (those of ``names``, or all) on the simulated engine."""
    traces = load_runs(DATA / "workloads").traces
    runs = []
    for name in traces if names is None else names:
        for batch in batches:
            knobs = Configuration(
                profile=profile, max_num_seqs=batch, arrivals="burst", options={"num_gpu_blocks": BLOCKS}
            )
            runs.append(ran(traces[name], knobs, name, f"{name}-{batch}"))
    return runs


def ran(trace: Trace, knobs: Configuration, name: str = "trace", id: str = "run", trial: int = 0) -> Run:
    """A trace, called ``name``, under one configuration of the simulated engine."""
    return asyncio.run(replay(trace, PlannedRun(id, name, knobs, trial), "", open_engine))


def in_virtual_time(configuration: Configuration, profile: str) -> Configuration:
    """What a measured run was asked, asked of the simulated engine."""
    options = {name: value for name, value in configuration.options.items() if name in OPTIONS}
    return replace(configuration, engine="sim", profile=profile, options=options)


@contextmanager
def written(profile: Profile) -> Iterator[str]:
    """The path of a profile that is on no disk, for so long."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{profile.name}.json"
        write_profile(profile, path)
        yield str(path)


def without_card(row: Row) -> float:
    """Mean absolute error left if all cells are scaled by one factor, fitted to them: what cannot be the card's."""
    factor = median(c.measured / c.simulated for c in row.cells)
    return sum(abs(factor * c.simulated / c.measured - 1) for c in row.cells) / len(row.cells)


def lone_decode_w(runs: Iterable[Run]) -> float | None:
    """Median power of readings in which one sequence decoded at the full clock, and nothing else."""
    watts = []
    for run in runs:
        steps = run.steps or ()
        for reading in run.readings or ():
            seen = [s for s in steps if s.end_s > reading.start_s and s.start_s < reading.end_s]
            length_s = reading.end_s - reading.start_s
            full = (reading.sm_clock_mhz or 0) > 1979 and length_s > 0.05
            if full and seen and all(not s.prefill and len(s.decode) == 1 for s in seen):
                watts.append(reading.energy_j / length_s)
    return median(watts) if watts else None


def longest_above_s(run: Run, watts: float) -> float:
    """The longest time in which every reading drew more than ``watts``."""
    above = groupby(run.readings or (), lambda r: r.energy_j > watts * (r.end_s - r.start_s))
    return max((sum(r.end_s - r.start_s for r in stretch) for more, stretch in above if more), default=0.0)


def launches_ms(runs: Iterable[Run]) -> list[float]:
    """For how long prompts too long for CUDA graphs held up the step before theirs, which only decoded, in order."""
    found, profile = [], load_profile(PROFILE)
    for run in runs:
        steps = list(observed_steps(run))
        for before, step in pairwise(steps):
            captured = LatencyModel(profile, step.seats).captured_tokens
            alone = before.work.prefills == 0 and not step.work.first
            if alone and step.work.prefills and step.work.prefill_tokens + step.work.decodes > captured:
                found.append(before.each_s * 1e3)
    return sorted(found)


def spread_of_first_tokens(runs: Iterable[Run]) -> float | None:
    """Standard deviation between trials of the mean time to first token, relative, mean over configurations."""
    trials: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        waits = [c.first_token_s - c.sent_s for c in run.calls if c.first_token_s is not None]
        trials[run.trace + configuration_key(run.configuration)].append(mean(waits))
    found = [stdev(each) / mean(each) for each in trials.values() if len(each) > 1]
    return mean(found) if found else None


def table(name: str, found: Validation) -> None:
    print(f"\n{name}\n\n| | mean error | mean \\|error\\| | worst | where |\n| --- | --: | --: | --: | --- |")
    for row in found.rows:
        worst = row.worst
        where = f"{worst.trace}, {worst.configuration}"
        print(f"| {row.metric} | {row.bias:+.1%} | {row.mape:.1%} | {worst.error:+.1%} | {where} |")
        if row.metric == ENERGY:
            print(f"| {row.metric}, less the card's factor | | {without_card(row):.1%} | | |")
    print(f"\n{found.verdict}")
    signs = [d.agrees for d in found.decisive if d.metric == ENERGY]
    orders = [same for (metric, _), same in found.ranks().items() if metric == ENERGY]
    print(f"{ENERGY} alone: {sum(signs)} of {len(signs)} signs, {sum(orders)} of {len(orders)} orders")


def main() -> None:
    runs = simulated(sys.argv[1] if len(sys.argv) > 1 else PROFILE)
    for name in MEASURED:
        table(name, validate(runs, load_runs(DATA / name).runs))
    print("\nLaunching prompts without CUDA graphs (quartiles), and how trials differ in the time to first token:")
    for name in (CARDS[0], *MEASURED):
        measured = load_runs(DATA / name).runs
        apart = spread_of_first_tokens(measured)
        quartiles = ", ".join(f"{q:.0f}" for q in quantiles(launches_ms(measured), n=4))
        print(f"{name}: {quartiles} ms" + ("" if apart is None else f"; {apart:.0%}"))
    print("\nOne sequence that decodes at 1980 MHz:")
    for name in CARDS:
        print(f"{name}: {lone_decode_w(load_runs(DATA / name).runs):.0f} W")
    (grid,) = load_runs(DATA / CARDS[0]).runs
    most_w = max(r.energy_j / (r.end_s - r.start_s) for r in grid.readings or ())
    stretches = ", ".join(f"above {w} W for {longest_above_s(grid, w):.1f} s" for w in (750, 705))
    print(f"\nThe grid, under its limit of 700 W: readings up to {most_w:.0f} W; at most, at a stretch, {stretches}")


if __name__ == "__main__":
    main()

"""Where first tokens of the simulator and of an H200 part: python -m benchmarks.first_tokens [PROFILE].

Splits the time to each first token of the kept workloads, measured and simulated, in three: until the step begins in
which the engine starts on the prompt (*queue*: the API server's way in, and steps before it), until the step ends in
which the prompt is complete (*steps*, by the step tap), and until the client has it (*out*). Measured times are means
of a cell's trials. Then what no model of a host can foresee: by how much trials of one cell differ, what is left of the
errors if the speed of each host is known, which launches waited for the GPU, and what hangs on how a burst falls.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as change
from itertools import pairwise
from math import pi, sqrt
from statistics import fmean, median
from typing import Final

from benchmarks.pieces import Cell, Compared, cell, compare, mean_pieces, pieces
from benchmarks.validation import CARDS, DATA, MEASURED, PROFILE, launches_ms, ran, simulated, written
from msgspec.structs import replace

from rejoule.replay.calibration.api import api_delays
from rejoule.replay.calibration.calibrate import calibrate
from rejoule.replay.calibration.observations import observed_steps
from rejoule.replay.sim.latency import LatencyModel
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.model import Trace
from rejoule.traces.run import Run, configuration_key
from rejoule.traces.runs import load_runs

MEAN_OF_NORMAL: Final = sqrt(2 / pi)
"""Mean absolute value over standard deviation."""
LAUNCHING: Final = ("host_per_step_s", "host_prefill_s", "host_eager_s")
CROWDS: Final = (0.85, 1.0, 1.15)
LARGE_S: Final = 0.06
"""A step of prompts that keeps the GPU busy for longer is large."""
HIDDEN: Final = 0.5
"""If no more of a large step's time is left once the one before it is out, its launch has waited for the GPU."""

MANY: Final = 128


def expected_error(cells: Iterable[Compared], spread: float) -> float:
    """Mean |error| of a model that knows each cell's true mean, from trials alone.

    A cell's mean of n trials lies off the true one by its spread over √n. ``spread`` is that of cells of one trial.
    """
    return fmean(
        MEAN_OF_NORMAL * (spread if each.spread is None else each.spread) / sqrt(len(each.trials)) for each in cells
    )


def table(name: str, cells: Mapping[Cell, Compared]) -> None:
    print(f"\n{name}: measured, simulated in ms, and what each piece adds to the error\n")
    print("| workload, batch | queue | | steps | | out | | error | trials |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: |")
    for (workload, batch), each in cells.items():
        shown = [
            f"{true * 1e3:.1f}, {found * 1e3:.1f} | {part:+.1%}"
            for true, found, part in zip(each.measured, each.simulated, each.parts, strict=True)
        ]
        spread = "–" if each.spread is None else f"{each.spread:.1%}"
        print(f"| {workload}, {batch} | {' | '.join(shown)} | {each.error:+.1%} | {spread} |")


def summary(found: Mapping[str, Mapping[Cell, Compared]]) -> None:
    """A row a set of runs: what misses, and how much of it is noise."""
    spread = fmean(s for cells in found.values() for each in cells.values() if (s := each.spread) is not None)
    print("\nMeans over cells\n\n| | queue | steps | out | error | \\|error\\| | from trials alone | trials |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: |")
    for name, cells in found.items():
        parts = [f"{fmean(part):+.1%}" for part in zip(*(each.parts for each in cells.values()), strict=True)]
        errors = [each.error for each in cells.values()]
        floor = expected_error(cells.values(), spread)
        trials = fmean(len(each.trials) for each in cells.values())
        print(
            f"| {name} | {' | '.join(parts)} | {fmean(errors):+.1%} | {fmean(map(abs, errors)):.1%} "
            f"| {floor:.1%} | {trials:.1f} |"
        )
    print(f"\nTrials of a cell differ by {spread:.1%} (standard deviation, mean over cells with several).")


def by_cell(profile: Profile | str) -> dict[Cell, Run]:
    """The kept workloads, simulated."""
    if isinstance(profile, str):
        return {cell(run): run for run in simulated(profile)}
    with written(profile) as path:
        return by_cell(path)


def of_host(profile: Profile, grid: Sequence[Run], measured: Sequence[Run]) -> Profile:
    """``profile`` with the API server of ``measured``, and launches as much longer as they were there than in the grid.

    So it is fitted to the runs that it is held against, and predicts nothing.
    """
    delays = api_delays(measured)
    assert delays is not None
    slower = fmean(launches_ms(measured)) / fmean(launches_ms(grid))
    host = {name: slower * getattr(profile.timing, name) for name in LAUNCHING}
    return replace(profile, timing=replace(profile.timing, **host, **delays.values))


def hosts(profile: Profile, measured: Mapping[str, Sequence[Run]]) -> None:
    grid = load_runs(DATA / CARDS[0]).runs
    print("\nWith launches and API server as on the host that was measured (no prediction):\n")
    print("| | launches of that host, of the grid | error | \\|error\\| |\n| --- | --: | --: | --: |")
    for name, runs in measured.items():
        errors = [each.error for each in compare(by_cell(of_host(profile, grid, runs)), runs).values()]
        mean_ms = f"{fmean(launches_ms(runs)):.1f}, {fmean(launches_ms(grid)):.1f} ms"
        print(f"| {name} | {mean_ms} | {fmean(errors):+.1%} | {fmean(map(abs, errors)):.1%} |")


def other_grid(profile: Profile, measured: Mapping[str, Sequence[Run]]) -> None:
    """Whether a grid that was measured elsewhere foretells first tokens of other hosts better."""
    runs = load_runs(DATA / "grid-other-host").runs
    base = load_profile("h200-data-sheet-llama-3.1-8b")
    timing = calibrate(base, "other", runs, timing_only=True).profile.timing
    other = replace(profile, timing=replace(timing, host_serial_s=profile.timing.host_serial_s))
    traces = load_runs(DATA / "workloads").traces
    print("\nMean error, mean \\|error\\| with a profile of each grid\n")
    names = (CARDS[0], "grid-other-host")
    print(f"| | {' | '.join(names)} |\n| --- | --: | --: |")
    for name, found in (*measured.items(), ("scheduling/batching", load_runs(DATA / "scheduling" / "batching").runs)):
        shown = [errors_at(each, traces, found) for each in (profile, other)]
        cells = (f"{fmean(errors):+.1%}, {fmean(map(abs, errors)):.1%}" for errors in shown)
        print(f"| {name} | {' | '.join(cells)} |")


def errors_at(profile: Profile, traces: Mapping[str, Trace], measured: Iterable[Run]) -> list[float]:
    """Of the mean time to first token, by configuration: each is simulated as it was run."""
    trials: dict[str, list[Run]] = defaultdict(list)
    for run in measured:
        trials[run.trace + configuration_key(run.configuration)].append(run)
    errors = []
    with written(profile) as path:
        for runs in trials.values():
            trace, knobs = runs[0].trace, runs[0].configuration
            options = {"num_gpu_blocks": knobs.options["num_gpu_blocks"]}
            found = ran(traces[trace], change(knobs, engine="sim", profile=path, options=options))
            errors.append(first_token_s(found) / fmean(map(first_token_s, runs)) - 1)
    return errors


def first_token_s(run: Run) -> float:
    return mean_pieces(pieces(run).values()).total


def stalls(profile: Profile, runs: Iterable[Run]) -> dict[bool, list[float]]:
    """Of large steps of prompts launched behind prompts, how much of the GPU's time the launch waited for, in seconds.

    0 where it did not wait. By whether it was in a first trial.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    for run in runs:
        model: LatencyModel | None = None
        for before, step in pairwise(observed_steps(run)):
            model = model or LatencyModel(profile, step.seats)
            if not before.work.prefills or not step.work.prefills or step.work.first:
                continue
            gpu_s = model.time(model.demand(step.work), step.clock_mhz or profile.gpu.max_clock_mhz).gpu_s
            if gpu_s > LARGE_S:
                left_s = step.duration_s
                found[run.trial == 0].append(gpu_s - left_s if left_s < HIDDEN * gpu_s else 0.0)
    return found


def stalled(seconds: Sequence[float]) -> str:
    waited = [each * 1e3 for each in seconds if each]
    long = f" ({min(waited):.0f} to {max(waited):.0f} ms)" if waited else ""
    return f"{len(waited)} of {len(seconds)}{long}"


def last_tokens_s(runs: Iterable[Run]) -> list[float]:
    """From the end of a step in which at least ``MANY`` decode to when the client has the last token of an answer."""
    found = []
    for run in runs:
        last = {name: step for step in run.steps or () for name, _ in step.decode}
        calls = ((call, last[call.id]) for call in run.calls if call.id in last)
        found += [call.end_s - step.end_s for call, step in calls if len(step.decode) >= MANY]
    return found


def median_errors(simulated: Mapping[Cell, Run], measured: Iterable[Run]) -> list[float]:
    """Of the median time to first token, by cell."""
    trials: dict[Cell, list[float]] = defaultdict(list)
    for run in measured:
        trials[cell(run)].append(median(each.total for each in pieces(run).values()))
    found = {at: median(each.total for each in pieces(run).values()) for at, run in simulated.items()}
    return [found[at] / fmean(each) - 1 for at, each in trials.items() if at in found]


def crowds(profile: Profile, measured: Mapping[str, Sequence[Run]]) -> None:
    """How much means and medians hang on which calls of a burst come out of the API server in time for a step."""
    print("\nMean \\|error\\| of mean and median with another api_crowd_s\n")
    print(f"| api_crowd_s | {' | '.join(measured)} |\n| --- |{' --: |' * len(measured)}")
    for factor in CROWDS:
        crowd_s = factor * profile.timing.api_crowd_s
        runs = by_cell(replace(profile, timing=replace(profile.timing, api_crowd_s=crowd_s)))
        shown = []
        for found in measured.values():
            means = [each.error for each in compare(runs, found).values()]
            medians = median_errors(runs, found)
            shown.append(f"{fmean(map(abs, means)):.1%}, {fmean(map(abs, medians)):.1%}")
        print(f"| {crowd_s * 1e3:.2f} ms | {' | '.join(shown)} |")


def main() -> None:
    profile = load_profile(sys.argv[1] if len(sys.argv) > 1 else PROFILE)
    runs = by_cell(profile)
    measured = {name: load_runs(DATA / name).runs for name in MEASURED}
    found = {name: compare(runs, each) for name, each in measured.items()}
    for name, cells in found.items():
        table(name, cells)
    summary(found)
    hosts(profile, measured)
    other_grid(profile, measured)
    print("\nLarge steps of prompts behind prompts, and those that were launched only when the GPU was nearly done:")
    for name, each in measured.items():
        waits = stalls(profile, each)
        print(f"{name}: {stalled(waits[True])} in first trials, {stalled(waits[False])} in later ones")
    print(f"\nLast tokens of answers, out of steps with {MANY} requests or more, are with the client after (median):")
    for name in (CARDS[0], "steady"):
        print(f"{name}: {median(last_tokens_s(load_runs(DATA / name).runs)) * 1e3:.0f} ms")
    crowds(profile, measured)


if __name__ == "__main__":
    main()

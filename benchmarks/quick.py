"""What a quick calibration is worth on another card and host: python -m benchmarks.quick.

Fits the constants of ``rejoule calibrate --quick`` to the quick cells of a grid that was measured on one card, and
judges the four workloads at batch 1, 8 and 64 that ran on it, with the parent and with the child. Without --grid and
--runs both are those of benchmarks/h200 on one card. The parent was fitted to that card, so it is spoilt first: its
watts and its host's times are multiplied (--watts, --host). --made N does the same on N cards and hosts that are
simulated: watts of idle, memory, cache and compute differ by up to 16 %, and each time of the host by 0.6 to 1.6. What
the simulator does not model is in none of them.

Full batches of 256 against 1 (benchmarks/gpu/steady.sh, unseen.sh) are judged beside: the ratio of their joules a
token, and the clock at 256, where the limit binds. They are those of --full, or of the grid's folder if that has some.
benchmarks/gpu/unseen.sh measures all of it on a card that no fit saw.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace as changed
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks.gpu.uniform_trace import Kind, uniform_trace
from benchmarks.validation import BLOCKS, DATA, PROFILE, ran, simulated

from rejoule.analysis.validate import ENERGY, validate
from rejoule.replay.calibration.calibrate import write_profile
from rejoule.replay.calibration.child import sizes
from rejoule.replay.calibration.grid import QUICK, cells, grid
from rejoule.replay.calibration.quick import CARD, grid_run, quick_fit, scaled
from rejoule.replay.engines.sim import SimEngine
from rejoule.replay.replay import replay
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces import Trace
from rejoule.traces.run import CallResult, Configuration, Run
from rejoule.traces.runs import PlannedRun, load_runs

BATCHES: Final = (1, 8, 64)
FIRST: Final = "time to first token, mean"
JUDGED: Final = {
    "workflow time": (0.03, None),
    "time between tokens": (0.03, None),
    FIRST: (0.1, 0.2),
    ENERGY: (0.03, None),
}
WATTS: Final = 0.16
"""By so much cards differ in joules at the same work."""
FULL_BATCHES: Final = {256: 10, 1: 24}
"""Lanes, and the calls of each."""
ANSWER: Final = (512, 128)
"""Tokens of their prompts and answers."""
CLOCK: Final = "SM clock under load"
RATIO: Final = "joules a token, batch 256 to 1"
BOUND: Final = "clock at the limit, batch 256"
ALONE: Final = "alone-0"
"""A cell that only grids have."""
AIMS: Final = {**JUDGED, RATIO: (0.05, None), BOUND: (0.05, None)}
"""What must be met: the mean of absolute errors over the cells, and the worst."""
KEPT: Final = 4
"""After so many cards what was found so far is printed."""
HOSTS: Final = (0.6, 1.6)

Errors = dict[str, list[float]]


def errors(profile: Profile, measured: Sequence[Run]) -> Errors:
    """Of the workloads' cells by metric."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{profile.name}.json"
        write_profile(profile, path)
        runs = simulated(str(path), BATCHES)
    rows = {row.metric: row for row in validate(runs, measured).rows}
    return {metric: [cell.error for cell in rows[metric].cells] for metric in JUDGED}


def full_batches(profile: Profile, measured: Sequence[Run]) -> Errors:
    """Relative errors of the ratio of joules a token of a full batch to a batch of 1, and of the clock of the full one;
    nothing where they were not measured."""
    most, least = FULL_BATCHES
    pair = [run for run in measured if run.trace in (f"batch-{most}", f"batch-{least}")]
    if len(pair) < len(FULL_BATCHES):
        return {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"{profile.name}.json"
        write_profile(profile, path)
        runs = full_runs(str(path))
    rows = {row.metric: {cell.trace: cell.error for cell in row.cells} for row in validate(runs, pair).rows}
    energy, clock = rows[ENERGY], rows[CLOCK]
    return {
        RATIO: [(1 + energy[f"batch-{most}"]) / (1 + energy[f"batch-{least}"]) - 1],
        BOUND: [clock[f"batch-{most}"]],
    }


def full_runs(profile: str) -> list[Run]:
    """Full batches on the simulated engine, as benchmarks/gpu/steady.sh asks for them."""
    knobs = Configuration(
        profile=profile, max_num_seqs=max(FULL_BATCHES), arrivals="burst", options={"num_gpu_blocks": BLOCKS}
    )
    each = ((f"batch-{lanes}", Kind("answer", lanes, calls, *ANSWER)) for lanes, calls in FULL_BATCHES.items())
    return [ran(uniform_trace([kind]), knobs, name, name) for name, kind in each]


def drawn(seed: int) -> Callable[[str], float]:
    """A card and a host."""
    random = Random(seed)
    found: dict[str, float] = defaultdict(float)

    def factor(name: str) -> float:
        if name not in found:
            found[name] = random.uniform(1 - WATTS, 1 + WATTS) if name in CARD else random.uniform(*HOSTS)
        return found[name]

    return factor


def measured_grid(card: Profile) -> Run:
    """The quick grid on a simulated card and host."""
    configuration = Configuration(max_num_seqs=256, options={"num_gpu_blocks": BLOCKS})

    async def opened(configuration: Configuration, trace: Trace) -> SimEngine:
        return SimEngine(configuration, trace, card)

    return asyncio.run(replay(grid(card, kinds=QUICK), PlannedRun("grid", "grid", configuration, 0), "", opened))


def lasts_s(measured: Run, parent: Profile) -> float:
    """How long the quick grid takes where ``measured`` was, which may be a full one: its cells and the pauses between
    them; what only the quick one has, to fill the cache, lasts as ``parent`` says."""
    limits = grid_run(measured).limits
    seen, modelled = (_cells_s(run) for run in (measured, measured_grid(parent)))
    names = [cell.name for cell in cells(parent, limits, QUICK)]
    idle_s = limits.gap_s * (len(names) - 1) + 2 * limits.rest_s
    return idle_s + sum(seen.get(name, modelled[name]) for name in names)


def _cells_s(run: Run) -> dict[str, float]:
    calls: dict[str, list[CallResult]] = defaultdict(list)
    for call in run.calls:
        calls[call.node].append(call)
    return {name: max(c.end_s for c in own) - min(c.sent_s for c in own) for name, own in calls.items()}


def as_measured(runs: Iterable[Run]) -> list[Run]:
    """Simulated runs, as if they were of a server; measured ones stay."""
    return [
        changed(run, configuration=changed(run.configuration, engine="http://card"))
        if run.configuration.engine == "sim"
        else run
        for run in runs
    ]


def table(name: str, before: Errors, after: Errors) -> None:
    print(f"\n{name}\n")
    print("| | before: mean \\|error\\| | worst | after: mean error | mean \\|error\\| | worst | aim | met |")
    print("| --- | --: | --: | --: | --: | --: | --: | --- |")
    for metric, (mean, worst) in AIMS.items():
        if metric not in before:
            continue
        a, b = before[metric], after[metric]
        far = max(b, key=abs)
        met = average(b) <= mean and (worst is None or abs(far) <= worst)
        wanted = f"{mean:.0%}" + ("" if worst is None else f", worst {worst:.0%}")
        print(
            f"| {metric} | {average(a):.1%} | {max(a, key=abs):+.1%} | {sum(b) / len(b):+.1%} | {average(b):.1%} "
            f"| {far:+.1%} | {wanted} | {'yes' if met else 'no'} |",
            flush=True,
        )


def average(found: Iterable[float]) -> float:
    sizes = [abs(error) for error in found]
    return sum(sizes) / len(sizes)


def judged(name: str, parent: Profile, measured: Run, runs: Sequence[Run], full: Sequence[Run]) -> None:
    fitted = quick_fit(parent, [grid_run(measured)])
    before, after = (errors(p, runs) | full_batches(p, full) for p in (parent, fitted.profile))
    table(name, before, after)
    seen = ", ".join(f"{what} {size:.1%}" for what, (_, size) in sizes(fitted.after).items())
    print(f"\nThe cells that were fitted are off by: {seen}")
    print(f"The quick grid lasts {lasts_s(measured, parent):.0f} s there.")


def made(parent: Profile, count: int) -> None:
    """Simulated cards and hosts, all cells together."""
    before: Errors = defaultdict(list)
    after: Errors = defaultdict(list)
    for seed in range(count):
        card = scaled(parent, drawn(seed))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "card.json"
            write_profile(card, path)
            runs = as_measured(simulated(str(path), BATCHES))
            full = as_measured(full_runs(str(path)))
        child = quick_fit(parent, [grid_run(measured_grid(card))]).profile
        for found, profile in ((before, parent), (after, child)):
            for metric, each in (errors(profile, runs) | full_batches(profile, full)).items():
                found[metric] += each
        print(f"{seed + 1} of {count} cards", file=sys.stderr, flush=True)
        if (seed + 1) % KEPT == 0 or seed + 1 == count:
            table(f"{seed + 1} simulated cards and hosts", before, after)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", default=PROFILE)
    parser.add_argument("--grid", type=Path)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--full", type=Path)
    parser.add_argument("--watts", type=float, default=1.0)
    parser.add_argument("--host", type=float, default=1.0)
    parser.add_argument("--made", type=int, default=0)
    given = parser.parse_args()
    parent = load_profile(given.base)
    if given.made:
        made(parent, given.made)
        return
    parent = scaled(parent, lambda name: given.watts if name in CARD else given.host)
    grids = load_runs(given.grid or DATA / "grid").runs
    full = grids if given.grid and not given.full else load_runs(given.full or DATA / "steady").runs
    runs = load_runs(given.runs or DATA / "workloads-watched").runs
    words = f"watts x{given.watts:g}, host x{given.host:g}" if (given.watts, given.host) != (1, 1) else "as it is"
    judged(
        f"{given.base}, {words}, and the quick cells of {given.grid or 'benchmarks/h200/grid'}",
        parent,
        next(run for run in grids if any(call.node == ALONE for call in run.calls)),
        as_measured(runs),
        as_measured(full),
    )


if __name__ == "__main__":
    main()

"""What a quick calibration is worth on another card and host: python -m benchmarks.quick.

Fits the constants of ``rejoule calibrate --quick`` to the quick cells of a grid that was measured on one card, and
judges the four workloads at batch 1, 8 and 64 that ran on it (--runs), with the parent and with the child. Without
--grid both are those of benchmarks/h200 on one card. The parent was fitted to that card, so it is spoilt first: its
watts and its host's times are multiplied (--watts, --host). --made N does the same on N cards and hosts that are
simulated: watts of idle, memory, cache and compute differ by up to 16 %, and each time of the host by 0.6 to 1.6. What
the simulator does not model is in none of them.

Full batches of 256 against 1 (benchmarks/gpu/steady.sh, unseen.sh) are judged beside: the ratio of their joules a
token, and the clock at 256, where the limit binds. They are those of --full, or of the grid's folder; without --grid,
of benchmarks/h200/steady. benchmarks/gpu/unseen.sh measures all of it on a card that no fit saw. What a card has none
of, and what another card than the grid's measured, is said.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.full_batches import BOUND, RATIO, Judged, errors_of, full_runs, judge, told
from benchmarks.validation import BLOCKS, DATA, PROFILE, simulated, written

from rejoule.analysis.validate import ENERGY, Row, validate
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
ALONE: Final = "alone-0"
"""A cell that only grids have."""
AIMS: Final = {**JUDGED, RATIO: (0.05, None), BOUND: (0.05, None)}
"""What must be met: the mean of absolute errors over the cells, and the worst."""
KEPT: Final = 4
"""After so many cards what was found so far is printed."""
HOSTS: Final = (0.6, 1.6)

Errors = dict[str, list[float]]


def compared(profile: Profile, measured: Sequence[Run]) -> dict[str, Row]:
    """The workloads' cells by metric; nothing where none were measured."""
    if not measured:
        return {}
    with written(profile) as path:
        runs = simulated(path, BATCHES)
    return {row.metric: row for row in validate(runs, measured).rows if row.metric in JUDGED}


def errors(rows: Mapping[str, Row], batches: Judged | None = None) -> Errors:
    return {metric: [cell.error for cell in row.cells] for metric, row in rows.items()} | errors_of(batches)


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
    both = (parent, fitted.profile)
    rows = [compared(profile, runs) for profile in both]
    batches = [judge(profile, full) for profile in both]
    table(name, *map(errors, rows, batches))
    for line in (*worst_first(rows[-1]), of_trials(runs), *told(*batches)):
        print(f"\n{line}")
    for what, each in (("workloads", runs), ("full batches", full)):
        if (other := of_other_card(what, each, measured)) is not None:
            print(f"\n{other}")
    seen = ", ".join(f"{what} {size:.1%}" for what, (_, size) in sizes(fitted.after).items())
    print(f"\nThe cells that were fitted are off by: {seen}")
    print(f"The quick grid lasts {lasts_s(measured, parent):.0f} s there.")


def worst_first(rows: Mapping[str, Row]) -> Iterator[str]:
    """Where the worst first token is, in a sentence."""
    if FIRST in rows:
        far = rows[FIRST].worst
        yield (
            f"The worst first token after is that of {far.trace}, {far.configuration}: {far.measured * 1e3:.0f} ms, "
            f"simulated {far.simulated * 1e3:.0f} ms."
        )


def of_trials(runs: Sequence[Run]) -> str:
    """How many trials the cells of the workloads are of, in a sentence."""
    if not runs:
        return "No workloads were given (--runs): their times, first tokens and joules are not judged."
    trials = Counter((run.trace, seats) for run in runs if (seats := run.configuration.max_num_seqs) in BATCHES)
    single = sum(count == 1 for count in trials.values())
    if not single:
        return f"All cells are of {min(trials.values())} trials and more."
    return (
        f"{single} of {len(trials)} cells are of one trial, which alone may put the worst first token further off than "
        "20 %: python -m benchmarks.first_token_noise."
    )


def of_other_card(what: str, runs: Sequence[Run], grid: Run) -> str | None:
    """A sentence if ``runs`` are not known to be of the grid's card."""
    cards = [None if run.conditions is None else frozenset(run.conditions.gpus) for run in (grid, *runs)]
    if not runs or (len(set(cards)) == 1 and all(cards)):
        return None
    if not all(cards):
        return f"Whether the {what} are of the grid's card is not known."
    return f"The {what} are of another card than the grid."


def made(parent: Profile, count: int) -> None:
    """Simulated cards and hosts, all cells together."""
    before: Errors = defaultdict(list)
    after: Errors = defaultdict(list)
    for seed in range(count):
        card = scaled(parent, drawn(seed))
        with written(card) as path:
            runs = as_measured(simulated(path, BATCHES))
            full = as_measured(full_runs(path))
        child = quick_fit(parent, [grid_run(measured_grid(card))]).profile
        for found, profile in ((before, parent), (after, child)):
            for metric, each in errors(compared(profile, runs), judge(profile, full)).items():
                found[metric] += each
        print(f"{seed + 1} of {count} cards", file=sys.stderr, flush=True)
        if (seed + 1) % KEPT == 0 or seed + 1 == count:
            table(f"{seed + 1} simulated cards and hosts", before, after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    runs = [] if given.grid and not given.runs else load_runs(given.runs or DATA / "workloads-watched").runs
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

"""How far the simulator is from an H200: python -m benchmarks.validation [PROFILE].

Replays the four kept workloads in virtual time at the batch sizes at which they were measured, and compares with runs
that were not used to fit the profile: those of benchmarks/h200/workloads-watched (on the card of the grid), of
workloads-other-card, and of workloads (a third card, three trials, sensors not sampled). Also prints how much the cards
differ at the same work.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Final

from rejoule.analysis.validate import ENERGY, Row, Validation, validate
from rejoule.replay.engines.open import open_engine
from rejoule.replay.replay import replay
from rejoule.traces.run import Configuration, Run
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
            plan = PlannedRun(f"{name}-{batch}", name, knobs, 0)
            runs.append(asyncio.run(replay(traces[name], plan, "", open_engine)))
    return runs


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


def table(name: str, found: Validation) -> None:
    print(f"\n{name}\n\n| | mean error | mean \\|error\\| | worst | where |\n| --- | --: | --: | --: | --- |")
    for row in found.rows:
        worst = row.worst
        where = f"{worst.trace}, {worst.configuration}"
        print(f"| {row.metric} | {row.bias:+.1%} | {row.mape:.1%} | {worst.error:+.1%} | {where} |")
        if row.metric == ENERGY:
            print(f"| {row.metric}, less the card's factor | | {without_card(row):.1%} | | |")
    print(f"\n{found.verdict}")


def main() -> None:
    runs = simulated(sys.argv[1] if len(sys.argv) > 1 else PROFILE)
    for name in MEASURED:
        table(name, validate(runs, load_runs(DATA / name).runs))
    print("\nOne sequence that decodes at 1980 MHz:")
    for name in CARDS:
        print(f"{name}: {lone_decode_w(load_runs(DATA / name).runs):.0f} W")


if __name__ == "__main__":
    main()

"""False verdicts by node and phase in diffs of equal configurations: python -m benchmarks.judge.diffs [DIFFS] [TRIALS].

Both sides replay the same work on the same engine, and differ in noise, leakage and where the counter's ticks fall; all
trials of a side share one fit. A diff that calls any node or phase different is false.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from benchmarks.judge.loads import LOADS, Load
from benchmarks.judge.made import made

from rejoule.analysis.diff import compare
from rejoule.analysis.pairing import Pair

NAMES = ("mix", "mix, 6 s", "mix, batch 1.3, 6 s", "tools, 6 s", "two nodes together", "two together, and chat")


def verdicts(load: Load, trials: int, seed: int) -> tuple[bool, bool, int]:
    """Whether some node was called different, whether some phase was, and how many node rows had no verdict at all."""
    runs = [made(load, seed, trial).run for trial in range(2 * trials)]
    found = compare([Pair(a, b) for a, b in zip(runs[:trials], runs[trials:], strict=True)])
    nodes, phases = found.of("node"), found.of("phase")
    false = [any(row.verdict in ("less", "more") for row in rows) for rows in (nodes, phases)]
    return false[0], false[1], sum(row.withheld is not None for row in nodes)


def main() -> None:
    diffs, trials = (int(value) for value in (*sys.argv[1:], *("100", "3")[len(sys.argv) - 1 :]))
    print("| load | false by node | false by phase | node rows without a verdict, a diff |\n|---|--:|--:|--:|")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for load in (load for load in LOADS if load.name in NAMES):
            found = list(pool.map(partial(verdicts, load, trials), range(diffs)))
            nodes, phases, silent = (sum(values) / diffs for values in zip(*found, strict=True))
            print(f"| {load.name} | {nodes:.1%} | {phases:.1%} | {silent:.1f} |", flush=True)


if __name__ == "__main__":
    main()

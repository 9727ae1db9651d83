"""False verdicts by node and phase in diffs of equal configurations: python -m benchmarks.judge.diffs [--diffs N].

Both sides replay the same work on the same engine, and differ in noise, leakage and where the counter's ticks fall; all
trials of a side share one fit. A table that calls any node, or any phase, different is false. The tables of
docs/attribution.md.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks.judge.loads import LOADS, Load
from benchmarks.judge.made import made
from rich.console import Console
from rich.progress import track

from rejoule.analysis.diff import compare
from rejoule.analysis.pairing import Pair

NAMES: Final = ("two nodes together", "two together, and chat", "mix, 6 s", "mix, batch 1.3, 6 s", "tools, 6 s", "mix")
TRIALS: Final = (2, 3, 5, 10)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Of one diff."""

    node: bool
    """Whether some node was called different."""
    phase: bool
    silent: float
    """Share of the node rows that had no verdict at all, with the reason."""


def verdicts(load: Load, counts: Sequence[int], seed: int) -> list[Verdicts]:
    """Of one diff for each number of trials."""
    runs = [made(load, seed, trial).run for trial in range(2 * max(counts))]
    return [_judged([Pair(runs[2 * i], runs[2 * i + 1]) for i in range(count)]) for count in counts]


def _judged(pairs: Sequence[Pair]) -> Verdicts:
    found = compare(pairs)
    nodes, phases = found.of("node"), found.of("phase")
    node, phase = (any(row.verdict in ("less", "more") for row in rows) for rows in (nodes, phases))
    return Verdicts(node, phase, sum(row.withheld is not None for row in nodes) / max(1, len(nodes)))


def table(loads: Sequence[Load], counts: Sequence[int], diffs: int, pool: ProcessPoolExecutor) -> Iterator[str]:
    yield "| load | " + " | ".join(f"{count} trials" for count in counts) + " | rows without a verdict |"
    yield "|---|" + "--:|" * (len(counts) + 1)
    for load in loads:
        jobs = pool.map(partial(verdicts, load, counts), range(diffs), chunksize=max(1, diffs // 50))
        found = list(track(jobs, load.name, diffs, console=Console(stderr=True)))
        columns = list(zip(*found, strict=True))
        cells = [f"{_share(v.node for v in mine)}, {_share(v.phase for v in mine)}" for mine in columns]
        silent = [v.silent for mine in columns for v in mine]
        yield f"| {load.name} | " + " | ".join(cells) + f" | {sum(silent) / len(silent):.0%} |"


def _share(said: Iterator[bool]) -> str:
    listed = list(said)
    return f"{sum(listed) / len(listed):.1%}"


def main() -> None:
    parser = ArgumentParser(
        prog="python -m benchmarks.judge.diffs", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--diffs", type=int, default=100)
    parser.add_argument("--trials", default=",".join(map(str, TRIALS)))
    parser.add_argument("--only", default="", help="loads whose name holds this")
    asked = parser.parse_args()
    counts = [int(count) for count in asked.trials.split(",")]
    chosen = [load for name in NAMES for load in LOADS if load.name == name and asked.only in name]
    print(f"Tables of {asked.diffs} diffs with a false verdict: by node, by phase\n")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for line in table(chosen, counts, asked.diffs, pool):
            print(line, flush=True)


if __name__ == "__main__":
    main()

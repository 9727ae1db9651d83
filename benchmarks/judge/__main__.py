"""Whether what ReJoule states of joules is so: python -m benchmarks.judge [--quick] [--runs N] [--only LOAD].

For each load, made-up runs whose true joules are known are attributed by the tool, and every line that it prints is
held against the truth. The tables of docs/attribution.md.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from benchmarks.judge.blind import SEEN, errors, stated, stated_row
from benchmarks.judge.blind import table as blind_table
from benchmarks.judge.loads import LOADS, Load
from benchmarks.judge.made import made
from benchmarks.judge.scores import KINDS, Mark, Score, marks, score, unnumbered


@dataclass(frozen=True)
class Row:
    load: str
    runs: int
    withheld: Counter[str]
    scores: dict[str, Score | None]
    """By kind of line, over the runs that are not withheld."""


def judge(load: Load, seeds: Sequence[int], pool: ProcessPoolExecutor) -> Row:
    found: list[Mark] = []
    withheld: Counter[str] = Counter()
    for why, mine in pool.map(partial(_one, load), seeds, chunksize=max(1, len(seeds) // 8)):
        if why is None:
            found += mine
        else:
            withheld[unnumbered(why)] += 1
    return Row(load.name, len(seeds), withheld, {kind: score(m for m in found if m.kind == kind) for kind in KINDS})


def _one(load: Load, seed: int) -> tuple[str | None, list[Mark]]:
    return marks(made(load, seed))


def table(rows: Iterable[Row]) -> Iterator[str]:
    yield "| load | withheld | " + " | ".join(KINDS) + " |"
    yield "|---|--:|" + "---|" * len(KINDS)
    for row in rows:
        kept_back = f"{sum(row.withheld.values()) / row.runs:.0%}" if row.withheld else ""
        yield f"| {row.load} | {kept_back} | " + " | ".join(_cell(row.scores[kind]) for kind in KINDS) + " |"


def _cell(found: Score | None) -> str:
    if found is None:
        return "–"
    if found.stated is None or found.held is None or found.over is None:
        return f"{found.bias:+.1%}, no ±"
    mark = "" if found.keeps else "**"
    return f"{found.bias:+.1%} ±{found.stated:.1%}, {mark}{found.held:.0%} held, {found.over:.1f}×{mark}"


def _kept(rows: list[Row], found: Iterable[Row]) -> Iterator[Row]:
    """Rows as they come, which can take minutes each."""
    for row in found:
        rows.append(row)
        yield row


def main() -> None:
    parser = ArgumentParser(
        prog="python -m benchmarks.judge", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="four runs of each load")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--only", default="", help="loads whose name holds this")
    parser.add_argument("--seed", type=int, default=0, help="of the first run of each load")
    asked = parser.parse_args()
    runs = 4 if asked.quick else asked.runs
    chosen = [load for load in LOADS if asked.only in load.name]
    if not chosen:
        parser.error(f"no load's name holds {asked.only!r}; there are: {'; '.join(load.name for load in LOADS)}")
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows: list[Row] = []
        for line in table(_kept(rows, (judge(load, range(asked.seed, asked.seed + runs), pool) for load in chosen))):
            print(line, flush=True)
    reasons = {(row.load, why): n for row in rows for why, n in row.withheld.items()}
    for (name, why), n in reasons.items():
        print(f"\n{name}: withheld in {n} runs: {why}")
    blind = [load for load in SEEN if load in chosen]
    if blind:
        print("\nWithout steps or readings, bias of nodes:\n")
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            few = range(asked.seed, asked.seed + max(1, runs // 10))
            jobs = [(load, [pool.submit(errors, load, seed) for seed in few]) for load in blind]
            print("\n".join(blind_table([(load, [job.result() for job in mine]) for load, mine in jobs])))
            print(stated_row(list(pool.map(stated, blind))))
    broken = sum(found is not None and not found.keeps for row in rows for found in row.scores.values())
    print(f"\n{broken} cells hold less than 92 %, or are wider than three times their error and than 2 % (bold).")


if __name__ == "__main__":
    main()

"""Whether causes that were planted are named, and whether stated intervals hold: python -m benchmarks.causes.

Makes ``--experiments`` on the simulated engine, each with one difference or two, and ``--measured`` with one on the
judge's engine, whose costs have another form than the fitted ones, seen through sensors. Seeded; prints the tables of
``docs/causes.md``.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from statistics import median

from benchmarks.causes.measured import PLANTS, Measured, Told, measured
from benchmarks.causes.planted import KINDS, TELLING, Planted, planted
from rich.console import Console
from rich.progress import track


def one_planted(number: int) -> Planted:
    return planted(KINDS[number % len(KINDS)], number)


def one_measured(number: int, trials: int) -> Measured:
    return measured(tuple(PLANTS)[number % len(PLANTS)], number, trials)


def planted_table(found: Sequence[Planted]) -> Iterator[str]:
    yield f"| planted | experiments | each changes {TELLING:.0%} or more alone | named |"
    yield "|---|--:|--:|--:|"
    for kind in dict.fromkeys(one.kind for one in found):
        yield _row(" and ".join(kind), [one for one in found if one.kind == kind])
    yield _row("all", found)
    yield f"\nSums are off by {max((one.off for one in found), default=0.0):.0e} at most, relative."


def _row(name: str, found: Sequence[Planted]) -> str:
    telling = [one for one in found if one.telling]
    named = sum(one.named for one in telling)
    return f"| {name} | {len(found)} | {len(telling)} | {named} ({named / max(1, len(telling)):.1%}) |"


def measured_table(found: Sequence[Measured]) -> Iterator[str]:
    yield from _told_table([one for run in found for one in run.told], "cause")
    yield ""
    yield from _told_table([one for run in found for one in run.by_node], "cause of a node")
    telling = [one for one in found if one.telling]
    named = sum(one.named for one in telling)
    silent = sum(one.basis == "totals" for one in found)
    yield f"\nThe planted cause is largest in {named} of {len(telling)}; {silent} of {len(found)} are told as totals"
    yield f"{sum(one.unsure for one in found)} causes of nodes are told without an interval"


def _told_table(told: Sequence[Told], heading: str) -> Iterator[str]:
    yield f"| {heading} | told | interval holds | ±, median | off, median |"
    yield "|---|--:|--:|--:|--:|"
    counts = sorted(dict.fromkeys(one.names for one in told), key=lambda names: -sum(o.names == names for o in told))
    for names in counts:
        yield _held(" + ".join(names), [one for one in told if one.names == names])
    yield _held("all", told)


def _held(name: str, told: Sequence[Told]) -> str:
    half, off = (median(values) for values in zip(*((o.half_width, abs(o.said - o.true)) for o in told), strict=True))
    return f"| {name} | {len(told)} | {sum(o.holds for o in told) / len(told):.1%} | {half:.2%} | {off:.2%} |"


def main() -> None:
    parser = ArgumentParser(
        prog="python -m benchmarks.causes", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--measured", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="seed of the first of each")
    parser.add_argument("--trials", type=int, default=1, help="of each side of a measured one")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    console = Console(stderr=True)
    with ProcessPoolExecutor(asked.jobs) as pool:
        simulated = pool.map(one_planted, range(asked.first, asked.first + asked.experiments), chunksize=5)
        for line in planted_table(list(track(simulated, "simulated", asked.experiments, console=console))):
            print(line, flush=True)
        print()
        of = partial(one_measured, trials=asked.trials)
        seen = pool.map(of, range(asked.first, asked.first + asked.measured), chunksize=5)
        for line in measured_table(list(track(seen, "measured", asked.measured, console=console))):
            print(line, flush=True)


if __name__ == "__main__":
    main()

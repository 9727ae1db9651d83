"""By how much mean first tokens of equal trials differ on one card and host: python -m benchmarks.first_token_noise.

Of the kept runs of benchmarks/h200 with several trials, no model is asked: how far single trials lie from the mean of
their cell (a workload under one configuration); whether the first trial after a server's start is slower than later
ones, and in which piece (benchmarks/pieces.py; why, benchmarks/new_sizes.py); and how far off the worst of twelve cells
then looks to a model that is exact. Last, what one trial and what several make of the worst cell of the default
profile, in cells with three trials.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sqrt
from random import Random
from statistics import fmean, median, stdev
from typing import Final, NamedTuple

from benchmarks.pieces import Pieces, cell, mean_pieces, pieces
from benchmarks.validation import DATA, simulated

from rejoule.traces.run import Configuration, Run, configuration_key
from rejoule.traces.runs import RunFolder, load_runs

REPEATED: Final = (
    "workloads-watched", "workloads", "unseen-workloads-trials", "options",
    "scheduling/batching", "scheduling/policies",
)  # fmt: skip
"""Folders of runs of the same work in several trials; the first is of the home card, that of the default profile."""
PLACED: Final = 3
"""Trials from which the place of one in its cell is known."""
FAR: Final = 0.2
"""The worst error that is aimed at (benchmarks/quick.py)."""
ALONE: Final = 4
"""Of twelve cells those at batch 1, in which first tokens wait for whole answers and hardly differ."""
TOGETHER: Final = 8
DRAWS: Final = 20_000
TRIALS: Final = (1, 2, 3, 5)


class Trials(NamedTuple):
    """One cell: what its calls' first tokens took, means of each trial, in order."""

    server: str
    batch: int
    pieces: tuple[Pieces, ...]

    @property
    def waits_s(self) -> list[float]:
        return [each.total for each in self.pieces]

    @property
    def excess(self) -> float:
        """Of the first trial over the mean of the later ones, relative."""
        first, *later = self.waits_s
        return first / fmean(later) - 1

    @property
    def shares(self) -> tuple[float, ...]:
        """What each piece adds to ``excess``."""
        first, *later = self.pieces
        rest = mean_pieces(later)
        return tuple((a - b) / rest.total for a, b in zip(first, rest, strict=True))


class Scatter(NamedTuple):
    """How far trials lie from what an exact model says, relative: from the true mean, which that of a few is not."""

    any: list[float]
    """From the mean of all trials."""
    first: list[float]
    """First trials, from the mean of later ones."""
    later: list[float]
    """Later trials, from their mean."""


def server(run: Run) -> str:
    """Names the server of a run, among those of a folder and of others."""
    c, cards = run.configuration, () if run.conditions is None else run.conditions.gpus
    options = configuration_key(Configuration(engine=c.engine, max_num_seqs=c.max_num_seqs, options=c.options))
    return "\n".join((*cards, options))


def cells(runs: Iterable[Run]) -> list[Trials]:
    """Those with two trials and more."""
    found: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.trace + configuration_key(run.configuration)].append(run)
    each = (sorted(trials, key=lambda run: run.trial) for trials in found.values() if len(trials) > 1)
    return [
        Trials(
            server(trials[0]),
            trials[0].configuration.max_num_seqs or 0,
            tuple(mean_pieces(pieces(run).values()) for run in trials),
        )
        for trials in each
    ]


def scatter(found: Iterable[Trials]) -> Scatter:
    """Of cells with at least ``PLACED`` trials."""
    out = Scatter([], [], [])
    for each in found:
        if len(each.pieces) >= PLACED:
            waits = each.waits_s
            out.any.extend(_about_mean(waits))
            out.later.extend(_about_mean(waits[1:]))
            out.first.append(each.excess)
    return out


def _about_mean(values: Sequence[float]) -> Iterator[float]:
    wider = sqrt(len(values) / (len(values) - 1))
    return (wider * (value / fmean(values) - 1) for value in values)


def worst_of_twelve(alone: Scatter, together: Scatter, trials: int, kind: str) -> tuple[float, float]:
    """How likely the worst of twelve cells is off by more than ``FAR``, and its median, of a model that is exact.

    ``trials`` of each cell are measured: ``any``; or ``first``, from a server's start on, against the mean of later
    ones; or ``later`` ones alone.
    """
    random = Random(0)

    def off(cell: Scatter) -> float:
        begun = [random.choice(cell.first)] if kind == "first" else []
        rest = cell.any if kind == "any" else cell.later
        measured = 1 + fmean(begun + [random.choice(rest) for _ in range(trials - len(begun))])
        return abs(1 / measured - 1)

    worst = [max(off(c) for c in (alone,) * ALONE + (together,) * TOGETHER) for _ in range(DRAWS)]
    return fmean(each > FAR for each in worst), median(worst)


def error(values: Sequence[float]) -> float:
    """Standard error of a mean."""
    return stdev(values) / sqrt(len(values))


def spread_table(found: Mapping[str, Sequence[Trials]]) -> None:
    print("Mean first tokens of trials against the mean of their cell (three trials and more)\n")
    print("| | cells | standard deviation | worst trial | trials off by over 20 % |")
    print("| --- | --: | --: | --: | --: |")
    for name, each in found.items():
        for what, above in (("batch 1", False), ("above batch 1", True)):
            some = [c for c in each if (c.batch > 1) is above and len(c.pieces) >= PLACED]
            if not some:
                continue
            apart = sqrt(fmean((stdev(c.waits_s) / fmean(c.waits_s)) ** 2 for c in some))
            off = [w / fmean(c.waits_s) - 1 for c in some for w in c.waits_s]
            far = sum(abs(each) > FAR for each in off)
            print(f"| {name}, {what} | {len(some)} | {apart:.1%} | {max(off, key=abs):+.1%} | {far} of {len(off)} |")


def first_table(found: Mapping[str, Sequence[Trials]]) -> None:
    print("\nThe first trial over the mean of later ones, above batch 1, and what each piece adds\n")
    print("| | cells | servers | first over later | most | slower | queue | steps | out |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: |")
    for name, some in {**found, "all": [each for own in found.values() for each in own]}.items():
        servers: dict[str, list[float]] = defaultdict(list)
        for each in some:
            servers[each.server].append(each.excess)
        # Cells of one server are not independent of each other.
        means = [fmean(each) for each in servers.values()] if len(servers) > 2 else [each.excess for each in some]
        over = [each.excess for each in some]
        parts = [f"{fmean(part):+.1%}" for part in zip(*(each.shares for each in some), strict=True)]
        print(
            f"| {name} | {len(some)} | {len(servers)} | {fmean(over):+.1%} ± {error(means):.1%} | {max(over):+.1%} "
            f"| {sum(each > 0 for each in over)} of {len(over)} | {' | '.join(parts)} |"
        )


def worst_table(found: Mapping[str, Sequence[Trials]]) -> None:
    print("\nHow likely the worst of twelve cells is off by over 20 % if the model is exact, and the median worst\n")
    print("| trials a cell | any | from a server's start, the model of later ones | the first left out |")
    print("| --: | --: | --: | --: |")
    every = [each for some in found.values() for each in some]
    for name, some in ((REPEATED[0], found[REPEATED[0]]), ("all", every)):
        # Trials at batch 1 are those of all folders: the home card has one of each cell.
        alone = scatter(each for each in every if each.batch == 1)
        together = scatter(each for each in some if each.batch > 1)
        for trials in TRIALS:
            shown = (worst_of_twelve(alone, together, trials, kind) for kind in Scatter._fields)
            print(f"| {name}, {trials} | {' | '.join(f'{p:.0%}, {far:.0%}' for p, far in shown)} |")


def judged_table(folders: Mapping[str, RunFolder]) -> None:
    """The default profile against single trials and all of them."""
    print("\nMean |error| and worst of first tokens of the default profile, in cells with three trials\n")
    print("| | trial 1 | trial 2 | trial 3 | their mean | mean of 2 and 3 |\n| --- | --: | --: | --: | --: | --: |")
    says = {cell(run): mean_pieces(pieces(run).values()).total for run in simulated(batches=(8, 64))}
    for name in REPEATED[:2]:
        waits: dict[tuple[str, int], list[float]] = defaultdict(list)
        for run in sorted(folders[name].runs, key=lambda run: run.trial):
            waits[cell(run)].append(mean_pieces(pieces(run).values()).total)
        whole = {at: each for at, each in waits.items() if at in says and len(each) == PLACED}
        shown = []
        for chosen in ((0,), (1,), (2,), (0, 1, 2), (1, 2)):
            errors = [says[at] / fmean(each[i] for i in chosen) - 1 for at, each in whole.items()]
            shown.append(f"{fmean(map(abs, errors)):.1%}, {max(errors, key=abs):+.1%}")
        print(f"| {name} | {' | '.join(shown)} |")


def main() -> None:
    folders = {name: load_runs(DATA / name) for name in REPEATED}
    found = {name: cells(folder.runs) for name, folder in folders.items()}
    spread_table(found)
    first_table({name: [each for each in some if each.batch > 1] for name, some in found.items()})
    worst_table(found)
    judged_table(folders)


if __name__ == "__main__":
    main()

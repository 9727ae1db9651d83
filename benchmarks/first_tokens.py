"""Where first tokens of the simulator and of an H200 part: python -m benchmarks.first_tokens [PROFILE].

Splits the time to each first token of the kept workloads, measured and simulated, in three: until the step begins in
which the engine starts on the prompt (*queue*: the API server's way in, and steps before it), until the step ends in
which the prompt is complete (*steps*, by the step tap), and until the client has it (*out*). Measured times are means of
a cell's trials. Then by how much trials of one cell differ, which no model can foresee.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import pi, sqrt
from statistics import fmean, stdev
from typing import Final, NamedTuple

from benchmarks.validation import DATA, MEASURED, PROFILE, simulated
from rejoule.traces.run import Run
from rejoule.traces.runs import load_runs

Cell = tuple[str, int]
"""Workload and ``max_num_seqs``."""
MEAN_OF_NORMAL: Final = sqrt(2 / pi)
"""Mean absolute value over standard deviation."""


class Pieces(NamedTuple):
    """What the time to a first token is made up of, in seconds."""

    queue: float
    steps: float
    out: float

    @property
    def total(self) -> float:
        return sum(self)


class Compared(NamedTuple):
    """A cell: means over its calls, in seconds."""

    measured: Pieces
    simulated: Pieces
    trials: tuple[float, ...]
    """Mean time to first token of each."""

    @property
    def error(self) -> float:
        """Of the time to first token, relative."""
        return self.simulated.total / self.measured.total - 1

    @property
    def parts(self) -> tuple[float, ...]:
        """What each piece adds to ``error``."""
        apart = zip(self.simulated, self.measured, strict=True)
        return tuple((found - true) / self.measured.total for found, true in apart)

    @property
    def spread(self) -> float | None:
        """Standard deviation of ``trials``, relative; ``None`` of a single one."""
        return stdev(self.trials) / fmean(self.trials) if len(self.trials) > 1 else None


def pieces(run: Run) -> dict[str, Pieces]:
    """By call; those without a first token, or of which no step was seen, are left out."""
    begun_s: dict[str, float] = {}
    done_s: dict[str, float] = {}
    for step in run.steps or ():
        for call, _, _ in step.prefill:
            begun_s.setdefault(call, step.start_s)
            done_s[call] = step.end_s
    return {
        call.id: Pieces(
            begun_s[call.id] - call.sent_s,
            done_s[call.id] - begun_s[call.id],
            call.first_token_s - done_s[call.id],
        )
        for call in run.calls
        if call.first_token_s is not None and call.id in begun_s
    }


def mean_pieces(found: Iterable[Pieces]) -> Pieces:
    return Pieces(*map(fmean, zip(*found, strict=True)))


def compare(simulated: Mapping[Cell, Run], measured: Iterable[Run]) -> dict[Cell, Compared]:
    """The cells that both have, in order."""
    trials: dict[Cell, list[Pieces]] = defaultdict(list)
    for run in measured:
        trials[cell(run)].append(mean_pieces(pieces(run).values()))
    return {
        at: Compared(
            mean_pieces(trials[at]),
            mean_pieces(pieces(simulated[at]).values()),
            tuple(trial.total for trial in trials[at]),
        )
        for at in sorted(trials.keys() & simulated.keys())
    }


def cell(run: Run) -> Cell:
    return run.trace, run.configuration.max_num_seqs or 0


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


def main() -> None:
    runs = {cell(run): run for run in simulated(sys.argv[1] if len(sys.argv) > 1 else PROFILE)}
    found = {name: compare(runs, load_runs(DATA / name).runs) for name in MEASURED}
    for name, cells in found.items():
        table(name, cells)
    summary(found)


if __name__ == "__main__":
    main()

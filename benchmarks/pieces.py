"""What the time to a first token is made up of, call by call, and how simulated pieces compare with measured ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean, stdev
from typing import NamedTuple

from rejoule.traces.run import Run

Cell = tuple[str, int]
"""Workload and ``max_num_seqs``."""


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

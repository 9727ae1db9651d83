"""Full batches of 256 lanes against one (benchmarks/gpu/steady.sh, unseen.sh), measured and simulated: the ratio of
their joules a token, and the clock of the full one, where the limit binds.

A server whose API cannot stream to 256 clients at once leaves its engine idle between answers, which is not simulated
and costs joules: for how long is said beside, and what the ratio is without those joules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Final

from benchmarks.gpu.uniform_trace import Kind, uniform_trace
from benchmarks.validation import BLOCKS, ran, written

from rejoule.analysis.validate import ENERGY, validate
from rejoule.replay.sim.profile import Profile
from rejoule.traces.run import Configuration, Run

MOST: Final = "batch-256"
ONE: Final = "batch-1"
LANES: Final = {MOST: 256, ONE: 1}
CALLS: Final = {MOST: 10, ONE: 24}
"""Of each lane."""
ANSWER: Final = (512, 128)
"""Tokens of their prompts and answers."""
CLOCK: Final = "SM clock under load"
RATIO: Final = "joules a token, batch 256 to 1"
BOUND: Final = "clock at the limit, batch 256"


@dataclass(frozen=True, slots=True)
class Idle:
    """What a run's engine spent with nothing to do, as shares of the run."""

    time: float
    joules: float


@dataclass(frozen=True, slots=True)
class Judged:
    """What a profile says of full batches that were measured."""

    a_token: Mapping[str, float]
    """Relative errors of the joules a token, by trace."""
    clock: float
    """The same of the clock of the full batch."""
    idle: Idle | None
    """Of the measured full batch; ``None`` where no steps were watched."""

    @property
    def ratio(self) -> float:
        return (1 + self.a_token[MOST]) / (1 + self.a_token[ONE]) - 1

    @property
    def words(self) -> str:
        """Errors of the joules a token."""
        return ", ".join(f"{error:+.1%} at {name}" for name, error in self.a_token.items())


def judge(profile: Profile, measured: Sequence[Run]) -> Judged | None:
    """``None`` where full batches were not measured. Energy and the clock must be known of those that were."""
    found = [run for run in measured if run.trace in LANES]
    if {run.trace for run in found} != LANES.keys():
        return None
    with written(profile) as path:
        runs = full_runs(path)
    rows = {row.metric: {c.trace: c.error for c in row.cells} for row in validate(runs, found).rows}
    energy = rows[ENERGY]
    return Judged(
        {name: energy[name] for name in LANES}, rows[CLOCK][MOST], idle([r for r in found if r.trace == MOST])
    )


def errors_of(found: Judged | None) -> dict[str, list[float]]:
    """By metric, as those of the workloads' cells."""
    return {RATIO: [found.ratio], BOUND: [found.clock]} if found else {}


def told(before: Judged | None, after: Judged | None) -> Iterator[str]:
    """What must be known of ratio and clock, of the parent and the child, in sentences."""
    if before is None or after is None:
        yield "No full batches were given (--full): ratio and clock are not judged."
        return
    yield f"Joules a token were off by {before.words} before, {after.words} after."
    if after.idle is None:
        yield f"Whether the engine was idle in {MOST} is not known."
        return
    without = (1 + after.ratio) / (1 - after.idle.joules) - 1
    yield (
        f"The engine had nothing to do for {after.idle.time:.1%} of {MOST}; without the joules of that, "
        f"{after.idle.joules:.1%}, the ratio is off by {without:+.1%} after."
    )


def full_runs(profile: str) -> list[Run]:
    """Full batches on the simulated engine, as benchmarks/gpu/steady.sh asks for them."""
    knobs = Configuration(
        profile=profile, max_num_seqs=max(LANES.values()), arrivals="burst", options={"num_gpu_blocks": BLOCKS}
    )
    each = ((name, Kind("answer", lanes, CALLS[name], *ANSWER)) for name, lanes in LANES.items())
    return [ran(uniform_trace([kind]), knobs, name, name) for name, kind in each]


def idle(runs: Sequence[Run]) -> Idle | None:
    """Over all ``runs`` together; a reading that saw work as well counts by its time without."""
    if not all(run.steps and run.readings for run in runs):
        return None
    idle_s = idle_j = 0.0
    for run in runs:
        stretches = [(s.start_s, s.end_s) for s in run.steps or () if s.idle]
        idle_s += fsum(end_s - start_s for start_s, end_s in stretches)
        for reading in run.readings or ():
            shared = (min(end_s, reading.end_s) - max(start_s, reading.start_s) for start_s, end_s in stretches)
            shared_s = fsum(each for each in shared if each > 0)
            idle_j += reading.energy_j * shared_s / (reading.end_s - reading.start_s) if shared_s else 0.0
    return Idle(
        idle_s / fsum(run.makespan_s for run in runs),
        idle_j / fsum(reading.energy_j for run in runs for reading in run.readings or ()),
    )

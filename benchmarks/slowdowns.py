"""What slowdown by waiting leaves out: python -m benchmarks.slowdowns.

Replays the four kept workloads in virtual time, all workflows at once, and each of them alone on the same engine with a
cold cache, and holds the slowdown that a run's own waiting tells against the time together by the time alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from benchmarks.validation import BLOCKS, DATA, PROFILE, ran

from rejoule.traces.figures import jain
from rejoule.traces.model import Trace
from rejoule.traces.run import Configuration
from rejoule.traces.runs import load_runs
from rejoule.traces.waits import waits

BATCHES: Final = (1, 4, 8, 64)
HEADS: Final = (
    "workload",
    "batch size",
    "slowdown by waiting",
    "against alone",
    "Jain by waiting",
    "against alone",
    "waiting tells more",
    "alone, by waiting",
)


def at(batch: int) -> Configuration:
    return Configuration(profile=PROFILE, max_num_seqs=batch, arrivals="burst", options={"num_gpu_blocks": BLOCKS})


@dataclass(frozen=True, slots=True)
class Line:
    """The workflows of one workload at one batch size."""

    told: Sequence[float]
    """Slowdown of each by waiting."""
    true: Sequence[float]
    """Its time by its time alone."""
    alone: float
    """The most slowdown by waiting of one alone, which waits for nobody."""

    @property
    def off(self) -> float:
        return fmean(self.told) / fmean(self.true) - 1.0

    @property
    def jains(self) -> tuple[float, float]:
        told, true = (jain([1.0 / s for s in slowdowns]) or 0.0 for slowdowns in (self.told, self.true))
        return told, true

    def __str__(self) -> str:
        over = sum(a > b for a, b in zip(self.told, self.true, strict=True))
        means = f"{fmean(self.told):.2f} | {fmean(self.true):.2f}"
        told, true = self.jains
        return f"{means} | {told:.3f} | {true:.3f} | {over} of {len(self.told)} | {self.alone:.3f}"


def line(trace: Trace, batch: int) -> Line:
    together = waits(ran(trace, at(batch)))
    alone = [waits(ran(replace(trace, workflows=(w,)), at(batch)))[0] for w in trace.workflows]
    return Line(
        [1.0 / (wait.progress or 1.0) for wait in together],
        [wait.time_s / one.time_s for wait, one in zip(together, alone, strict=True)],
        max(1.0 / (one.progress or 1.0) for one in alone),
    )


def main() -> None:
    print(f"| {' | '.join(HEADS)} |\n|---|{'--:|' * (len(HEADS) - 1)}")
    lines = []
    for name, trace in load_runs(DATA / "workloads").traces.items():
        for batch in BATCHES:
            lines.append(line(trace, batch))
            print(f"| {name} | {batch} | {lines[-1]} |", flush=True)
    apart = max(abs(told - true) for told, true in (found.jains for found in lines))
    off = [found.off for found in lines]
    print(
        f"\nMean slowdowns by waiting are {min(off):+.0%} to {max(off):+.0%} off; Jain's index by at most {apart:.3f}."
    )


if __name__ == "__main__":
    main()

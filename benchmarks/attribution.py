"""How far each way to attribute joules is from the truth, on made-up runs: python -m benchmarks.attribution [SEED].

The physics is ``benchmarks.made_runs``': affine, so this shows what a method misses and what the counter's ticks cost,
not how affine a real engine is. It prints the table of docs/attribution.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Final

from benchmarks.made_runs import Kind, made_run

from rejoule.analysis.attribution import attribute
from rejoule.analysis.attribution.naive import NAIVE
from rejoule.traces.run import Run

KINDS: Final = (Kind("chat", 300, 200, 0.5), Kind("summary", 4000, 60), Kind("agent", 8000, 150, 0.9))
LOADS: Final = ((1.8, 250), (6.2, 500), (12.3, 1500))
"""Arrivals a second, and calls."""


def errors(run: Run, truth: Mapping[str, float]) -> Iterator[tuple[str, dict[str, float], float]]:
    """By method: joules of each call, and how often an interval holds the truth (nan without intervals)."""
    for name, seen in (("attributed, engine steps", run), ("attributed, client times", replace(run, steps=None))):
        found = attribute(seen)
        if found is not None:
            calls = {call.call: call.energy for call in found.calls}
            told = {c: e.uncertainty_j for c, e in calls.items() if e.uncertainty_j is not None}
            held = [abs(calls[c].total_j - truth[c]) <= half for c, half in told.items()]
            yield name, {call: energy.total_j for call, energy in calls.items()}, fmean(held) if held else float("nan")
    for name, split in NAIVE.items():
        shares = split(run)
        if shares is not None:
            yield name, shares, float("nan")


def batch(run: Run) -> float:
    """Mean number of decoding calls over the steps that decode."""
    return fmean(len(step.decode) for step in run.steps or () if step.decode)


def table(seed: int, loads: Sequence[tuple[float, int]] = LOADS) -> Iterator[str]:
    """For each load: the median error of a call, the worst of a node, and how many intervals hold the truth."""
    found: dict[str, list[str]] = {}
    heads = []
    for rate, calls in loads:
        run, truth = made_run(KINDS, rate, calls, seed)
        heads.append(f"mean batch {batch(run):.0f}")
        nodes = {kind.node: [c.id for c in run.calls if c.node == kind.node] for kind in KINDS}
        for method, joules, held in errors(run, truth):
            middle = median(abs(joules[call] / truth[call] - 1.0) for call in truth)
            sums = [(sum(joules[c] for c in calls), sum(truth[c] for c in calls)) for calls in nodes.values()]
            worst = max((given / true - 1.0 for given, true in sums), key=abs)
            cover = "" if held != held else f", {held:.0%} held"
            found.setdefault(method, []).append(f"{middle:.1%}, {worst:+.0%}{cover}")
    yield "| method | " + " | ".join(heads) + " |"
    yield "|---|" + "---|" * len(heads)
    for method, cells in found.items():
        yield f"| {method} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    for line in table(int(sys.argv[1]) if len(sys.argv) > 1 else 0):
        print(line)

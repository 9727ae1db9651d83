"""Experiments on the simulated engine in which what differs is known, since it was planted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import fsum
from random import Random
from typing import Any, Final

from benchmarks.causes.loads import PROFILES, Shape, trace_of

from rejoule.analysis.causes import CauseName, Causes, causes
from rejoule.analysis.pairing import Pair
from rejoule.replay.engines.open import open_engine
from rejoule.replay.replay import replay
from rejoule.traces import Trace
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun

Turned = Callable[[Configuration, Random], Configuration]

TELLING: Final = 0.05
"""Of A's joules: what a plant changes alone, for its effect to be held against what is named."""
OPTIONS: Final[Mapping[str, Any]] = {"enable_prefix_caching": True}


def _uncached(base: Configuration, draw: Random) -> Configuration:
    return replace(base, options={**base.options, "enable_prefix_caching": False})


def _emptied(base: Configuration, draw: Random) -> Configuration:
    return replace(base, max_num_seqs=draw.choice((1, 2, 4)))


def _slowed(base: Configuration, draw: Random) -> Configuration:
    return replace(base, sm_clock_mhz=float(draw.choice((645, 795, 945))))


def _lengthened(base: Configuration, draw: Random) -> Configuration:
    return replace(base, output_scale=draw.choice((1.5, 2.0, 3.0)))


def _waiting(base: Configuration, draw: Random) -> Configuration:
    return replace(base, time_scale=draw.choice((3.0, 5.0)))


PLANTS: Final[Mapping[str, tuple[Turned, tuple[CauseName, ...]]]] = {
    "prompts computed again": (_uncached, ("prefill",)),
    "batch emptied": (_emptied, ("batching",)),
    "clock lowered": (_slowed, ("clocks",)),
    "outputs lengthened": (_lengthened, ("outputs",)),
    "idle time added": (_waiting, ("idle", "tool wait")),
}
"""What is turned, and the causes that name it."""

KINDS: Final[Sequence[tuple[str, ...]]] = (*((name,) for name in PLANTS), *combinations(PLANTS, 2))


@dataclass(frozen=True, slots=True)
class Planted:
    kind: tuple[str, ...]
    found: Causes
    alone: tuple[float, ...]
    """What each plant alone changes, of A's joules."""
    off: float
    """How far the causes are from adding up, of the difference, or of nodes and lines from each cause."""

    @property
    def telling(self) -> bool:
        return all(abs(change) >= TELLING for change in self.alone)

    @property
    def named(self) -> bool:
        """Whether the largest causes are those that were planted."""
        wanted = [PLANTS[name][1] for name in self.kind]
        groups = [*wanted, *((n,) for c in self.found.causes for n in c.names if all(n not in w for w in wanted))]
        said = [abs(fsum(c.joules for c in self.found.causes if set(c.names) <= set(group))) for group in groups]
        return min(said[: len(wanted)]) > max(said[len(wanted) :], default=0.0)


def planted(kind: tuple[str, ...], seed: int) -> Planted:
    draw = Random(seed)
    idle = "idle time added" in kind
    shape = Shape(
        workflows=draw.randint(6, 14),
        apart_ms=draw.uniform(1500.0, 4000.0) if idle else draw.choice((0.0, draw.uniform(20.0, 200.0))),
        shared=draw.randint(800, 4000),
        tool_ms=draw.choice((0.0, draw.uniform(200.0, 2000.0))) if idle else 0.0,
    )
    trace = trace_of(shape, seed)
    base = Configuration(profile=draw.choice(PROFILES), max_num_seqs=draw.choice((32, 64)), options=OPTIONS)
    turned = [PLANTS[name][0] for name in kind]
    seeds = [draw.random() for _ in kind]
    a, together = run_of(trace, base), base
    for turn, own in zip(turned, seeds, strict=True):
        together = turn(together, Random(own))
    b = run_of(trace, together)
    alone = (
        [b] if len(kind) == 1 else [run_of(trace, turn(base, Random(s))) for turn, s in zip(turned, seeds, strict=True)]
    )
    found = causes([Pair(a, b)])
    assert found is not None
    return Planted(kind, found, tuple(joules(run) / joules(a) - 1.0 for run in alone), off(found))


def run_of(trace: Trace, configuration: Configuration) -> Run:
    return asyncio.run(replay(trace, PlannedRun("run", "planted", configuration, 0), "", open_engine))


def joules(run: Run) -> float:
    return run.energy.gpu_j or 0.0


def off(found: Causes) -> float:
    """The worst relative error of a sum: of causes, and of nodes and lines within each."""
    sums = [(fsum(c.joules for c in found.causes), found.delta_j)]
    sums += [(fsum(c.by_node.values()), c.joules) for c in found.causes]
    return max(abs(said - true) / max(abs(true), 1e-12) for said, true in sums)

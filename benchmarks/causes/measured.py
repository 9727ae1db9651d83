"""The same on measured runs: the judge's engine, whose costs have another form than the fitted ones, seen through
sensors with noise. The truth is split by the same rule, from counterfactual steps of the judge's own physics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import fsum
from random import Random
from typing import Final

import numpy as np
from benchmarks.judge.engine import Log, Stage
from benchmarks.judge.loads import LATE, MIX, PART, Load, alone
from benchmarks.judge.made import recorded, served
from benchmarks.judge.physics import EXPERTS, Array, Demand, Physics

from rejoule.analysis.attribution.joules import lay
from rejoule.analysis.causes import CauseName, causes
from rejoule.analysis.causes.amounts import amounts
from rejoule.analysis.causes.split import CAUSES, Rule, split
from rejoule.analysis.causes.views import name_of
from rejoule.analysis.pairing import Pair
from rejoule.replay.sim.makeup import shapley
from rejoule.traces.run import Run

Turned = Callable[[Load, Random], Load]
CLOCK_MHZ: Final = 1980.0


def _kinds(load: Load, prompt: float = 1.0, output: float = 1.0, cached: float = 1.0) -> Load:
    def changed(stage: Stage) -> Stage:
        kinds = (
            replace(k, prompt=round(k.prompt * prompt), output=round(k.output * output), cached=k.cached * cached)
            for k in stage.kinds
        )
        return replace(stage, kinds=tuple(kinds))

    return replace(load, stages=tuple(tuple(map(changed, shape)) for shape in load.stages))


def _slower(load: Load, share: float) -> Load:
    card = load.physics.card
    slow = replace(
        card, flop_per_s=card.flop_per_s * share, flop_j=card.flop_j * share**2, awake_w=card.awake_w * share
    )
    return replace(load, physics=replace(load.physics, card=slow))


PLANTS: Final[Mapping[str, tuple[Turned, tuple[CauseName, ...]]]] = {
    "prompts computed again": (lambda load, draw: _kinds(load, cached=0.0), ("prefill",)),
    "batch emptied": (lambda load, draw: replace(load, slots=draw.choice((1, 2, 3))), ("batching",)),
    "clock lowered": (lambda load, draw: _slower(load, draw.choice((0.5, 0.65))), ("clocks",)),
    "outputs lengthened": (lambda load, draw: _kinds(load, output=draw.choice((2.0, 3.0))), ("outputs",)),
    "idle time added": (
        lambda load, draw: replace(load, rate=load.rate / 4.0, length_s=load.length_s * 4.0),
        ("idle", "tool wait"),
    ),
}


@dataclass(frozen=True, slots=True)
class Told:
    """A cause that was told with an interval, and its true joules; of A's."""

    names: tuple[CauseName, ...]
    said: float
    half_width: float
    true: float

    @property
    def holds(self) -> bool:
        return abs(self.said - self.true) <= self.half_width


@dataclass(frozen=True, slots=True)
class Measured:
    kind: str
    told: tuple[Told, ...]
    by_node: tuple[Told, ...]
    """Of each cause of each node, and of idle time; of A's joules, too."""
    unsure: int
    """Causes of nodes that were told without an interval."""
    basis: str
    named: bool
    telling: bool


def measured(kind: str, seed: int, trials: int = 1) -> Measured:
    draw = Random(seed)
    turn, wanted = PLANTS[kind]
    nodes = [replace(stage.kinds[0], cached=draw.uniform(0.3, 0.9)) for shape in MIX for stage in shape]
    a = Load(
        "planted",
        alone(*draw.sample(nodes, draw.choice((2, 3)))),
        rate=draw.uniform(0.6, 1.5) if kind == "idle time added" else draw.uniform(1.5, 4.0),
        length_s=draw.uniform(12.0, 25.0),
        physics=replace(Physics(), model=EXPERTS) if draw.random() < 0.25 else Physics(drift_w=draw.choice((0.0, 5.0))),
    )
    a = replace(a, sensor=draw.choice((a.sensor, LATE, PART)))
    b = turn(a, draw)
    pairs, truths, whole = [], [], 0.0
    for trial in range(trials):
        sides = [_side(load, seed, 2 * trial + i, kind == "clock lowered" and i == 1) for i, load in enumerate((a, b))]
        pairs.append(Pair(sides[0][0], sides[1][0]))
        free = [amounts(laid) for laid in lay([true for _, true in sides])]
        truths.append(split(free[0], free[1], Rule()))
        whole += fsum(step.energy_j or 0.0 for step in sides[0][1].steps or ()) / trials
    found = causes(pairs)
    assert found is not None
    true = {
        name: fsum(j for each in truths for (_, cause), j in each.items() if cause == name) / trials for name in CAUSES
    }
    of: dict[tuple[str, CauseName], float] = {}
    for each in truths:
        for (line, cause), joules in each.items():
            key = name_of("node", line), cause
            of[key] = of.get(key, 0.0) + joules / trials
    told = tuple(
        Told(c.names, c.joules / whole, c.half_width_j / whole, fsum(true[n] for n in c.names) / whole)
        for c in found.causes
        if c.half_width_j is not None
    )
    by_node = tuple(
        Told(c.names, c.by_node[name] / whole, half / whole, fsum(of.get((name, n), 0.0) for n in c.names) / whole)
        for c in found.causes
        for name, half in c.node_half_width_j.items()
        if half is not None
    )
    unsure = sum(half is None for c in found.causes for half in c.node_half_width_j.values())
    largest = found.causes[0].names
    planted = abs(fsum(true[name] for name in wanted)) / whole
    return Measured(kind, told, by_node, unsure, found.basis, any(name in largest for name in wanted), planted >= 0.05)


def _side(load: Load, seed: int, trial: int, slowed: bool) -> tuple[Run, Run]:
    """What a recorder knows of a side, and the same with true joules and makeups."""
    log = served(load, seed, trial)
    run = replace(recorded(load, log, seed, trial), trial=trial // 2)
    if slowed:
        run = replace(run, configuration=replace(run.configuration, sm_clock_mhz=CLOCK_MHZ / 2))
    # The price is that of the faster card, which the physics of the slower one keep no record of.
    free = replace(load.physics, card=Physics().card) if slowed else load.physics
    rows = _rows(log, load.physics, free)
    steps = tuple(
        replace(step, energy_j=joules, makeup=row)
        for step, joules, row in zip(run.steps or (), log.joules[1:-1], rows[1:-1], strict=True)
    )
    total = fsum(log.joules[1:-1])
    return run, replace(run, steps=steps, readings=None, energy=replace(run.energy, gpu_j=total))


def _rows(log: Log, physics: Physics, free: Physics) -> list[tuple[float, ...]]:
    """The makeup of each step, as `rejoule.traces.run.Step` has it."""
    size = len(log.joules)
    step, prompt = np.array(log.step, dtype=np.intp), np.array(log.prompt, dtype=bool)
    tokens, context = np.array(log.tokens, dtype=np.float64), np.array(log.context, dtype=np.float64)

    def by_step(values: Array, mine: Array) -> Array:
        return np.bincount(step, np.where(mine, values, 0.0), minlength=size).astype(np.float64)

    pairs = tokens * (context + tokens / 2.0)
    nothing = np.zeros(size)
    players = (
        # What each brings: tokens, tokens read, pairs, prompts.
        (by_step(tokens, ~prompt), nothing, by_step(tokens**2 / 2.0, ~prompt), nothing),
        (nothing, by_step(context, ~prompt), by_step(tokens * context, ~prompt), nothing),
        (nothing, nothing, nothing, by_step(np.ones(len(step)), prompt)),
        (by_step(tokens, prompt), nothing, nothing, nothing),
        (nothing, by_step(context, prompt), by_step(pairs, prompt), nothing),
    )
    value = {}
    for count in range(len(players) + 1):
        for coalition in combinations(range(len(players)), count):
            columns = [sum((players[p][i] for p in coalition), nothing) for i in range(4)]
            value[coalition] = free.cost(Demand(*columns), np.ones(size))[1]
    everyone = value[tuple(range(len(players)))]
    whole = physics.cost(Demand(*[sum((p[i] for p in players), nothing) for i in range(4)]), np.array(log.clock))[1]
    shares = np.stack([shapley(value, p, len(players)) for p in range(len(players))], axis=1) / everyone[:, None]
    ratio = np.where(log.busy, everyone / whole, 1.0)
    rows = np.concatenate([ratio[:, None], shares], axis=1).tolist()
    return [tuple(row) if busy else (1.0,) for row, busy in zip(rows, log.busy, strict=True)]

"""What rejoule calibrate finds of a clock curve from power caps alone, no clock locked: python -m benchmarks.caps_only.

Draws GPUs whose curves, watts and memory bandwidth at low clocks are unlike the base's, simulates the grid on each at
no cap and under --caps, reads it as NVML's sensors would, fits, and compares steps under those caps and between them.
Noise is as on a real GPU: each step lasts a few percent longer or shorter (--noise), the energy counter ticks ten times
a second, the clock is what it was when the sampler looked. A card takes three minutes of CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace as changed
from random import Random
from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from rejoule.replay.calibration.calibrate import calibrate
from rejoule.replay.calibration.grid import Limits, grid
from rejoule.replay.calibration.observations import ObservedStep, observed_steps
from rejoule.replay.calibration.quick import CARD, scaled
from rejoule.replay.energy.fake import FakeGpu
from rejoule.replay.energy.fake.sensors import Sensors
from rejoule.replay.energy.samples import COUNTS, MISSING, NAN, RECORD, VALUES, Samples, Track
from rejoule.replay.energy.window import measure
from rejoule.replay.engines.sim import SimEngine
from rejoule.replay.replay import replay
from rejoule.replay.sim.latency import LatencyModel, Work
from rejoule.replay.sim.power import Operation, PowerModel
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces import Trace
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun

BASE: Final = "h200-llama-3.1-8b"
CURVE: Final = {"knee": (0.8, 0.96), "voltage_slope": (0.3, 1.5), "voltage_sag": (0.2, 0.9), "floor": (0.35, 0.65)}
"""Between which constants are drawn."""
KNEE: Final = (0.45, 0.75)
"""The same of the share of the clock below which memory is slower."""
WATTS: Final = 0.16
SAMPLED_S: Final = 0.023
LEAD_S: Final = 5.0
"""Idle time before and after a run that is sampled, too."""
READ_NS: Final = 200_000
RESTING_HBM_W: Final = 40.0
WORKS: Final = {
    "prefill": Work(prefills=1, prefill_tokens=4096, prefill_pairs=4096**2 / 2, prompts_completed=1),
    **{f"decode {b}": Work(decodes=b, decode_context=1000 * b) for b in (1, 8, 64, 256)},
}
"""Steps that are compared."""


def drawn(base: Profile, seed: int) -> Profile:
    """A card of the base's kind with a clock curve of its own."""
    random = Random(seed)
    curve = {name: random.uniform(*limits) for name, limits in CURVE.items()}
    watts = {name: random.uniform(1 - WATTS, 1 + WATTS) for name in CARD}
    card = scaled(base, lambda name: watts.get(name, 1.0))
    timing = replace(card.timing, memory_knee=random.uniform(*KNEE))
    return replace(card, name=f"card {seed}", power=replace(card.power, **curve), timing=timing)


def measured(card: Profile, cap_w: float | None, limits: Limits, noise: float, seed: int) -> Run:
    """The grid on a card under a cap, as a server that ReJoule starts and NVML would have shown it."""
    knobs = Configuration(
        max_num_seqs=limits.max_num_seqs, power_cap_w=cap_w, options={"num_gpu_blocks": limits.kv_tokens // 16}
    )

    async def opened(knobs: Configuration, trace: Trace) -> SimEngine:
        return SimEngine(knobs, trace, card)

    plan = PlannedRun(f"grid-{cap_w}", "grid", knobs, 0)
    run = asyncio.run(replay(grid(card, limits), plan, "", opened))
    return sensed(warped(run, noise, seed), card, seed)


def warped(run: Run, noise: float, seed: int) -> Run:
    """With steps that last longer or shorter by a share, drawn for each; of equal ones in a row, for their mean."""
    steps, draw = run.steps or (), np.random.default_rng(seed)
    lasted = np.array([s.end_s - s.start_s for s in steps])
    spread = np.array([0.0 if s.idle else noise / max(1, s.steps) ** 0.5 for s in steps])
    before = np.array([steps[0].start_s, *(s.end_s for s in steps)])
    after = before[0] + np.concatenate([[0.0], np.cumsum(lasted * np.exp(spread * draw.standard_normal(len(steps))))])

    def then(at_s: float) -> float:
        return float(np.interp(at_s, before, after))

    calls = tuple(
        changed(
            c,
            sent_s=then(c.sent_s),
            end_s=then(c.end_s),
            first_token_s=None if c.first_token_s is None else then(c.first_token_s),
        )
        for c in run.calls
    )
    kept = tuple(
        changed(s, start_s=then(s.start_s), end_s=then(s.end_s), energy_j=(s.energy_j or 0.0) * factor)
        for s, factor in zip(steps, np.diff(after) / lasted, strict=True)
    )
    return changed(run, steps=kept, calls=calls, makespan_s=then(run.makespan_s))


class _Curve:
    """Joules by nanoseconds: those of stretches between times, and nothing beyond."""

    def __init__(self, at_s: Sequence[float], joules: Sequence[float]) -> None:
        self._at_ns, self._joules = 1e9 * np.asarray(at_s), np.cumsum([0.0, *joules])

    def energy_j(self, ns: Any) -> Any:
        return np.interp(np.asarray(ns), self._at_ns, self._joules)


def sensed(run: Run, card: Profile, seed: int) -> Run:
    """With readings as the sampler would have taken them, and steps of which nobody knows clock and energy."""
    steps, limit_w = run.steps or (), run.configuration.power_cap_w or card.gpu.default_power_limit_w
    latency = LatencyModel(card, run.configuration.max_num_seqs)
    idle_w = PowerModel(card, latency).idle_w
    shift_s = LEAD_S - steps[0].start_s
    begun_s = np.array([s.start_s for s in steps]) + shift_s
    end_s = steps[-1].end_s + shift_s
    edges = [0.0, *begun_s, end_s, end_s + LEAD_S]
    drawn_j = _Curve(edges, [LEAD_S * idle_w, *(s.energy_j or 0.0 for s in steps), LEAD_S * idle_w])
    busy = {s.start_s: _memory_share(latency, s, card) for s in observed_steps(run)}
    memory_j = [card.power.memory_w * busy.get(s.start_s, 0.0) * (s.end_s - s.start_s) for s in steps]
    of_memory_j = _Curve(edges, [0.0, *memory_j, 0.0])
    draw, sensors = np.random.default_rng(seed), Sensors(FakeGpu(seed=seed), 0)
    at_s = np.arange(LEAD_S - 2, end_s + 2, SAMPLED_S)
    at_s = at_s + draw.exponential(2e-4, len(at_s))
    ns = np.round(at_s * 1e9)
    clocks = np.array([float(s.sm_clock_mhz or card.gpu.max_clock_mhz) for s in steps])
    now = np.clip(np.searchsorted(begun_s, at_s, side="right") - 1, 0, None)
    records = np.zeros(len(ns), RECORD)
    for column in (*COUNTS, *VALUES):
        records[column] = NAN if column in VALUES else MISSING
    for column, values in {
        "gpu": 0,
        "lost": 0,
        "host_ns": ns,
        "end_ns": ns + READ_NS,
        "epoch_us": ns / 1000 + 10**15,
        "wall_us": ns / 1000 + 10**15 + READ_NS / 2000,
        "energy_mj": sensors.energy_mj(drawn_j, ns),
        "power_w": sensors.instant_mw(drawn_j, ns) / 1000,
        "average_w": sensors.average_mw(drawn_j, ns) / 1000,
        "hbm_w": RESTING_HBM_W + sensors.average_mw(of_memory_j, ns) / 1000,
        "sm_clock_mhz": np.rint(clocks[now] / card.gpu.clock_step_mhz) * card.gpu.clock_step_mhz,
        "limit_w": limit_w,
    }.items():
        records[column] = values
    samples = Samples("580", SAMPLED_S, 1, 0.0, (Track("GPU-0", card.gpu.name, records),))
    window = measure(samples, LEAD_S, LEAD_S + run.makespan_s)
    blind = tuple(changed(s, sm_clock_mhz=None, energy_j=None) for s in steps)
    return changed(run, steps=blind, readings=window.readings)


def _memory_share(latency: LatencyModel, step: ObservedStep, card: Profile) -> float:
    time = latency.time(latency.demand(step.work), step.clock_mhz or card.gpu.max_clock_mhz)
    return min(1.0, time.memory_s / time.step_s)


def compared(true: Profile, found: Profile, caps: Sequence[float]) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """By step and cap: relative errors of watts, of throughput and of the clock."""
    for cap_w in caps:
        for name, work in WORKS.items():
            a, b = (_steady(profile, work, cap_w) for profile in (true, found))
            yield name, (b.power_w / a.power_w - 1, a.step_s / b.step_s - 1, b.clock_mhz / a.clock_mhz - 1)


def _steady(profile: Profile, work: Work, cap_w: float) -> Operation:
    latency = LatencyModel(profile)
    return PowerModel(profile, latency, cap_w).operate(latency.demand(work))


def numbers(words: str) -> list[float]:
    return [float(word) for word in words.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--caps", type=numbers, default=[500.0, 350.0, 250.0])
    parser.add_argument("--judged", type=numbers, default=[600.0, 500.0, 400.0, 350.0, 300.0, 250.0])
    parser.add_argument("--noise", type=float, default=0.02)
    given = parser.parse_args()
    base, limits = load_profile(BASE), Limits()
    errors: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for seed in range(given.first, given.first + given.draws):
        card = drawn(base, seed)
        runs = [
            measured(card, cap_w, limits, given.noise, 100 * seed + i) for i, cap_w in enumerate([None, *given.caps])
        ]
        found = calibrate(base, "fitted", runs)
        lasted = ", ".join(f"{run.makespan_s:.0f} s" for run in runs)
        for name in CURVE:
            error = getattr(found.profile.power, name) / getattr(card.power, name) - 1
            curves[name].append((error, found.known[f"power.{name}"]))
        for label, profile in (("base", base), ("fitted", found.profile)):
            for name, each in compared(card, profile, given.judged):
                errors[label, name].append(each)
        print(f"card {seed}: the grids lasted {lasted}", file=sys.stderr, flush=True)
        table(seed - given.first + 1, errors, curves)


def table(
    cards: int,
    errors: Mapping[tuple[str, str], Sequence[tuple[float, float, float]]],
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> None:
    """What was found so far: means of absolute errors, and the worst."""
    print(f"\n{cards} cards\n\n| | watts | worst | throughput | worst | clock | worst |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for (label, name), each in errors.items():
        off = np.abs(np.array(each))
        cells = " | ".join(f"{mean:.1%} | {worst:.1%}" for mean, worst in zip(off.mean(0), off.max(0), strict=True))
        print(f"| {label}, {name} | {cells} |")
    print("\n| | off by | worst | standard error, mean |\n| --- | --: | --: | --: |")
    for name, found in curves.items():
        off, known = np.abs(np.array(found)).T
        print(f"| {name} | {off.mean():.1%} | {off.max():.1%} | {known.mean():.1%} |", flush=True)


if __name__ == "__main__":
    main()

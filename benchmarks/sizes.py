"""Whether grids of several models give the constants of a GPU: python -m benchmarks.sizes [DRAWS | --cells].

GPUs and hosts are made up: their efficiencies, what they take by layer and by step, and their watts are drawn, and are
known. The short grid runs on each with the shapes of Llama-3.1-8B, of Qwen3-32B and of 16 layers of that, with clocks
that go faster and slower by 3 %. What is fitted to two and to three is judged on shapes that it never saw, by the four
workloads at batch 1, 8 and 64, beside what is fitted to the 8B shape alone, as a profile is, and beside data sheets.
The second table is of GPUs on which each model's products and reads reach an efficiency of their own, 3 % (standard
deviation) from the GPU's: no fit knows that. ``--cells`` prints how well constants are known by what is measured beside
the 8B shape.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace as changed
from math import exp
from random import Random
from typing import Final, NamedTuple

import numpy as np
from benchmarks.quick import as_measured, average, compared, errors
from benchmarks.validation import BLOCKS, DATA
from msgspec.structs import replace
from tests.replay.calibration.made import readings

from rejoule.analysis.validate import ENERGY
from rejoule.replay.calibration.calibrate import calibrate
from rejoule.replay.calibration.grid import FULL, QUICK, Kinds, Limits, grid
from rejoule.replay.calibration.sizes import GpuCalibration, Size, calibrate_gpu
from rejoule.replay.engines.sim import SimEngine
from rejoule.replay.replay import replay
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import GpuFile, compose, put_together
from rejoule.traces import Trace
from rejoule.traces.run import Configuration, Run, Step
from rejoule.traces.runs import PlannedRun, load_runs

GPU: Final = "h200-data-sheet"
"""Whose data sheet, limits and first guesses are taken."""
SMALL, LARGE, CUT = "llama-3.1-8b", "qwen3-32b", "qwen3-32b-16-layers"
MODELS: Final = (SMALL, LARGE, CUT)
UNSEEN: Final = ("llama-2-7b", "qwen3-30b-a3b")
LIMITS: Final = Limits(max_num_seqs=64, kv_tokens=200_000, cell_s=0.1, gap_s=0.1, rest_s=0.3)
WHOLE: Final = Limits(max_num_seqs=64, kv_tokens=200_000)
BATCHES: Final = (1, 8, 64)
TOLD: Final = ("timing.memory_efficiency", "timing.cache_efficiency", "timing.compute_efficiency",
               "timing.per_layer_s", "timing.per_step_s", "layer.host_prefill_s", "layer.host_eager_s")  # fmt: skip
DRIFT: Final = 0.03
PIECE_S: Final = 0.05
"""By how much a clock goes faster or slower than it should, and for how long."""
OWN: Final = 0.03
AIMS: Final = {"workflow time": 0.05, ENERGY: 0.07}
DRAWN: Final = {
    "compute_efficiency": (0.6, 0.85),
    "memory_efficiency": (0.75, 0.92),
    "cache_efficiency": (0.55, 0.85),
    "attention_efficiency": (0.4, 0.8),
    "overlap_norm": (1.6, 3.5),
    "per_layer_s": (1e-5, 4e-5),
    "per_step_s": (2e-4, 8e-4),
    "per_request_s": (1e-6, 4e-6),
    "host_per_step_s": (2e-3, 3.5e-3),
    "host_per_request_s": (1e-5, 4e-5),
    "host_prefill_s": (1e-3, 3e-3),
    "host_eager_s": (2e-3, 6e-3),
    "host_first_s": (1e-4, 5e-4),
    "api_per_request_s": (2e-3, 4e-3),
    "api_crowd_s": (4e-4, 9e-4),
    "api_answer_s": (8e-4, 1.6e-3),
    "api_per_output_s": (5e-5, 2e-4),
    "api_per_echoed_token_s": (5e-7, 1.5e-6),
}
LAYER: Final = {"host_prefill_s": (1e-4, 2e-4), "host_eager_s": (3e-4, 6e-4)}
WATTS: Final = {"idle_w": (105.0, 140.0), "memory_w": (110.0, 170.0), "compute_w": (780.0, 950.0),
                "traffic_w": (230.0, 330.0), "cache_w": (150.0, 260.0)}  # fmt: skip


class Planted(NamedTuple):
    """A GPU and a host that are known, and by how much each model's efficiencies are another's."""

    file: GpuFile
    own: Mapping[str, float]

    def profile(self, model: str) -> Profile:
        found = put_together("planted", self.file, model)
        factor = self.own.get(model, 1.0)
        own = {
            name: min(1.0, factor * getattr(found.timing, name)) for name in ("compute_efficiency", "memory_efficiency")
        }
        return replace(found, timing=replace(found.timing, **own))


def planted(seed: int, own: float = 0.0) -> Planted:
    random, base = Random(seed), compose(GPU, SMALL)
    timing, layer, power = (
        {name: random.uniform(*within) for name, within in ranges.items()} for ranges in (DRAWN, LAYER, WATTS)
    )
    power |= {"awake_w": 5.0, "cap_window_s": 0.2, "cap_peak": 1.04}
    file = GpuFile(
        "made up", base.gpu, replace(base.timing, **timing), replace(base.power, **power), base.sources,
        base.clock_curve, layer=layer,
    )  # fmt: skip
    return Planted(file, {model: exp(random.gauss(0.0, own)) for model in (*MODELS, *UNSEEN)})


def watched(true: Profile, model: str, seed: int, kinds: Kinds = QUICK, limits: Limits = LIMITS) -> Run:
    """The grid on a GPU whose constants are ``true``, as a machine whose speed drifts would have measured it."""
    configuration = Configuration(max_num_seqs=limits.max_num_seqs, options={"num_gpu_blocks": BLOCKS})

    async def opened(configuration: Configuration, trace: Trace) -> SimEngine:
        return SimEngine(configuration, trace, true)

    trace = grid(compose(GPU, model), limits, kinds=kinds)
    run = drifted(asyncio.run(replay(trace, PlannedRun("grid", "grid", configuration, 0), "", opened)), seed)
    run = changed(run, configuration=changed(run.configuration, engine="vllm"))
    return changed(run, readings=readings(run))


def drifted(run: Run, seed: int) -> Run:
    """A run on a clock that goes faster and slower."""
    steps: Sequence[Step] = run.steps or ()
    told = np.arange(0.0, steps[-1].end_s + 1.0, PIECE_S)
    slopes = np.exp(np.random.default_rng(seed).normal(0.0, DRIFT, len(told) - 1))
    shown = np.concatenate([[0.0], np.cumsum(PIECE_S * slopes)])

    def at(seconds: float) -> float:
        return float(np.interp(seconds, told, shown))

    return changed(
        run,
        steps=tuple(changed(s, start_s=at(s.start_s), end_s=at(s.end_s)) for s in steps),
        calls=tuple(
            changed(
                c,
                sent_s=at(c.sent_s),
                first_token_s=None if c.first_token_s is None else at(c.first_token_s),
                end_s=at(c.end_s),
            )
            for c in run.calls
        ),
    )


def fitted(grids: Mapping[str, Run]) -> GpuCalibration:
    """What the grids of these models give together."""
    return calibrate_gpu("fitted", [Size(compose(GPU, model), [run]) for model, run in grids.items()])


def fitted_alone(grid: Run) -> Profile:
    """What the grid of the small model gives by itself."""
    return calibrate(compose(GPU, SMALL), "alone", [grid]).profile


def measured(gpu: Planted, seed: int) -> dict[str, Run]:
    """The grid of each model."""
    return {model: watched(gpu.profile(model), model, seed) for model in MODELS}


def guesses(gpu: Planted, seed: int) -> dict[str, dict[str, Profile]]:
    """By way to come by it and by model, a profile."""
    grids = measured(gpu, seed)
    alone = fitted_alone(grids[SMALL])
    two, three = (fitted({m: grids[m] for m in models}).file for models in ((SMALL, LARGE), MODELS))
    sheets = {model: compose(GPU, model) for model in (*UNSEEN, LARGE)}
    return {
        "data sheet": sheets,
        "grid of 8B": {m: replace(p, timing=alone.timing, power=alone.power) for m, p in sheets.items()},
        "grids of 8B and 32B": {m: put_together("two", two, m) for m in sheets},
        "of 8B, 32B and 16 layers": {m: put_together("three", three, m) for m in sheets},
    }


def workloads(profile: Profile, names: Sequence[str] | None = None, batches: Sequence[int] = BATCHES) -> list[Run]:
    """The kept workloads, or those of ``names``, on a profile."""

    async def opened(configuration: Configuration, trace: Trace) -> SimEngine:
        return SimEngine(configuration, trace, profile)

    traces = load_runs(DATA / "workloads").traces
    runs = []
    for name in traces if names is None else names:
        for batch in batches:
            knobs = Configuration(max_num_seqs=batch, arrivals="burst", options={"num_gpu_blocks": BLOCKS})
            plan = PlannedRun(f"{name}-{batch}", name, knobs, 0)
            runs.append(asyncio.run(replay(traces[name], plan, "", opened)))
    return runs


def cells_needed() -> None:
    """Standard errors by the cells of the second model's grid, the first one's being whole."""
    gpu = planted(0)
    first = watched(gpu.profile(SMALL), SMALL, 0, FULL)
    print(f"| beside {SMALL} | s at full length | {' | '.join(TOLD)} |\n| --- | --: |{' --: |' * len(TOLD)}")
    for name, others in {
        f"{LARGE}, all cells": {LARGE: FULL},
        f"{LARGE}, --quick": {LARGE: QUICK},
        f"{LARGE} and {CUT}, --quick": {LARGE: QUICK, CUT: QUICK},
    }.items():
        grids = {model: watched(gpu.profile(model), model, 0, kinds) for model, kinds in others.items()}
        whole_s = sum(watched(gpu.profile(m), m, 0, kinds, WHOLE).makespan_s for m, kinds in others.items())
        known = fitted({SMALL: first, **grids}).known
        print(f"| {name} | {whole_s:.0f} | {' | '.join(f'{known[c]:.1%}' for c in TOLD)} |", flush=True)


def main() -> None:
    if "--cells" in sys.argv:
        cells_needed()
        return
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for title, own in ((f"{draws} GPUs", 0.0), (f"{draws} GPUs, each model with efficiencies of its own", OWN)):
        found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for seed in range(draws):
            gpu = planted(seed, own)
            truth = {model: as_measured(workloads(gpu.profile(model))) for model in (*UNSEEN, LARGE)}
            for way, profiles in guesses(gpu, seed).items():
                for model, profile in profiles.items():
                    for metric, each in errors(compared(profile, truth[model])).items():
                        found[model, way][metric] += each
            print(f"{seed + 1} of {draws}", file=sys.stderr, flush=True)
        print(f"\n**{title}**: mean |error|, worst\n\n| model | fitted to | {' | '.join(AIMS)} |")
        print(f"| --- | --- |{' --: |' * len(AIMS)}")
        for (model, way), by in sorted(found.items(), key=lambda item: item[0][0]):
            words = (f"{average(by[m]):.1%}, {max(by[m], key=abs):+.1%}" for m in AIMS)
            print(f"| {model} | {way} | {' | '.join(words)} |", flush=True)


if __name__ == "__main__":
    main()

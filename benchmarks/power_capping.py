"""The simulator's model of power caps against a public sweep: python -m benchmarks.power_capping [--json].

One power curve serves all four workloads (two models, at batch 1 and 32). A model has one overlap norm; each workload
has the two roofline legs of its step, and the joules that a step's work takes whatever the clock. Times alone decide
the norms and the legs, power alone the curve and the joules, both at the clocks that were read; the simulator then
gets a cap alone and predicts throughput, power and clock. Where a cap binds, power follows from the cap itself: what
is tested there is the clock, and with it the throughput.

The joules are a workload's own, since its legs do not tell them: a lone decode of the mixture of experts has the step
whose time depends most on the clock, and draws the least.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import msgspec
import numpy as np
import orjson

from rejoule.replay.calibration.least_squares import Parameter, Vector, least_squares
from rejoule.replay.sim.latency import Demand, LatencyModel
from rejoule.replay.sim.power import Operation, PowerModel
from rejoule.replay.sim.shipped import load_profile

SWEEP = Path(__file__).parent / "public_sweeps" / "rtx-pro-6000-vllm.json"

BASE = load_profile("rtx-pro-6000-llama-3.1-8b")
"""Its GPU has the limits and clocks; the model and the power curve are replaced by what is fitted."""

CURVE = {
    "idle_w": Parameter("idle_w", 80, 20, 130),
    "awake_w": Parameter("awake_w", 200, 1, 600),
    "knee": Parameter("knee", 0.93, 0.5, 0.99),
    "voltage_slope": Parameter("voltage_slope", 3.0, 0.05, 8),
}
"""Where the search for the GPU's power curve begins, and its bounds."""

WORK_W = 150.0
"""Where the search for each workload's joules begins: so many watts at its greatest rate."""

Key = tuple[int, float]
"""Names a cell: the workload's position in the sweep, and the cap in watts."""

Measured = tuple[float, float, float, float]
"""Cap (W), tokens a second, mean power (W) and mean SM clock (MHz)."""


class Workload(msgspec.Struct, frozen=True):
    """A row of the sweep."""

    model: str
    batch: int
    cells: tuple[Measured, ...]


class Sweep(msgspec.Struct, frozen=True):
    source: str
    setting: str
    corrections: str
    columns: tuple[str, ...]
    workloads: tuple[Workload, ...]


@dataclass(frozen=True)
class Cell:
    """What was measured, and by how much the prediction is off, as a share of it."""

    model: str
    batch: int
    cap_w: float
    tokens_per_s: float
    throughput_error: float
    power_w: float
    power_error: float
    clock_mhz: float
    clock_error: float


class Model:
    """The simulator's own latency and power models of one workload, with the constants of one fit."""

    def __init__(self, workload: Workload, at: int, values: Mapping[str, float]) -> None:
        memory_s = values[f"memory_s.{at}"]
        self._demand = Demand(memory_s * values[f"compute_share.{at}"], memory_s, 0.0, 0.0)
        norm = values[f"overlap_norm.{workload.model}"]
        timing = msgspec.structs.replace(BASE.timing, overlap_norm=norm, memory_knee=0.0)
        self._profile = msgspec.structs.replace(BASE, timing=timing)
        if f"step_j.{at}" in values:
            curve = msgspec.structs.replace(
                BASE.power,
                **{name: values[name] for name in CURVE},
                memory_w=values[f"step_j.{at}"] / memory_s,
                compute_w=0.0,
                traffic_w=0.0,
            )
            self._profile = msgspec.structs.replace(self._profile, power=curve)
        self._latency = LatencyModel(self._profile)
        self._power = PowerModel(self._profile, self._latency)

    def step_s(self, clock_mhz: float) -> float:
        """A step's seconds at a clock, whatever the cap."""
        return self._latency.time(self._demand, clock_mhz).step_s

    def power_w(self, clock_mhz: float) -> float:
        """A step's watts at a clock, whatever the cap."""
        return self._power.power_at(self._demand, clock_mhz)

    def under_cap(self, cap_w: float) -> Operation:
        """What the simulator makes of a cap."""
        return PowerModel(self._profile, self._latency, cap_w).operate(self._demand)


@dataclass(frozen=True)
class Fit:
    """The constants that agree best with the cells, and the relative standard error of each."""

    values: Mapping[str, float]
    known: Mapping[str, float]


def timing_parameters(sweep: Sequence[Workload]) -> Iterator[Parameter]:
    """The norm of each model, and for each workload the two legs of its step."""
    for model in dict.fromkeys(workload.model for workload in sweep):
        yield Parameter(f"overlap_norm.{model}", 2.5, 1, 10)
    for i, workload in enumerate(sweep):
        yield Parameter(f"memory_s.{i}", workload.batch / workload.cells[0][1], 1e-4, 1)
        yield Parameter(f"compute_share.{i}", 0.5, 0.02, 3)


def power_parameters(sweep: Sequence[Workload]) -> Iterator[Parameter]:
    """The GPU's curve, and for each workload the joules of a step."""
    yield from CURVE.values()
    for i, workload in enumerate(sweep):
        step_s = workload.batch / workload.cells[0][1]
        yield Parameter(f"step_j.{i}", WORK_W * step_s, step_s, 1000 * step_s)


def fit(sweep: Sequence[Workload], timed: Collection[Key], metered: Collection[Key]) -> Fit:
    """The constants that agree best with the times of the cells ``timed`` and the watts of the cells ``metered``."""

    def solve(
        chosen: Collection[Key],
        parameters: Iterable[Parameter],
        held: Mapping[str, float],
        measured: Callable[[Workload, Measured], float],
        modelled: Callable[[Model, float], float],
    ) -> Fit:
        cells = [(i, cell) for i, workload in enumerate(sweep) for cell in workload.cells if (i, cell[0]) in chosen]

        def predict(values: Mapping[str, float]) -> Vector:
            models = [Model(workload, i, {**held, **values}) for i, workload in enumerate(sweep)]
            return np.array([modelled(models[i], cell[3]) for i, cell in cells])

        goal = np.array([measured(sweep[i], cell) for i, cell in cells])
        found = least_squares(predict, goal, np.ones(len(goal)), list(parameters))
        return Fit(found.values, found.known)

    timing = solve(timed, timing_parameters(sweep), {}, lambda w, cell: w.batch / cell[1], Model.step_s)
    power = solve(metered, power_parameters(sweep), timing.values, lambda _, cell: cell[2], Model.power_w)
    return Fit({**timing.values, **power.values}, {**timing.known, **power.known})


def predictions(sweep: Sequence[Workload], values: Mapping[str, float], chosen: Collection[Key]) -> Iterator[Cell]:
    """The cells ``chosen``, each from its cap alone."""
    for i, workload in enumerate(sweep):
        model = Model(workload, i, values)
        for cap_w, tokens_per_s, power_w, clock_mhz in workload.cells:
            if (i, cap_w) in chosen:
                got = model.under_cap(cap_w)
                rate = workload.batch / got.step_s
                yield Cell(
                    workload.model,
                    workload.batch,
                    cap_w,
                    tokens_per_s,
                    rate / tokens_per_s - 1,
                    power_w,
                    got.power_w / power_w - 1,
                    clock_mhz,
                    got.clock_mhz / clock_mhz - 1,
                )


def read() -> tuple[Workload, ...]:
    """The sweep's workloads."""
    return msgspec.json.decode(SWEEP.read_bytes(), type=Sweep).workloads


def keys(sweep: Sequence[Workload]) -> list[Key]:
    """All cells, in the order of the sweep."""
    return [(i, cell[0]) for i, workload in enumerate(sweep) for cell in workload.cells]


def fitted(sweep: Sequence[Workload]) -> list[Cell]:
    """Every cell, from a fit to all."""
    every = keys(sweep)
    return list(predictions(sweep, fit(sweep, every, every).values, every))


def held_out(sweep: Sequence[Workload]) -> list[Cell]:
    """Every cell, from a fit to those at all other caps."""
    found: dict[Key, Cell] = {}
    for cap_w in {cap_w for _, cap_w in keys(sweep)}:
        others = [key for key in keys(sweep) if key[1] != cap_w]
        left = [key for key in keys(sweep) if key[1] == cap_w]
        found.update(zip(left, predictions(sweep, fit(sweep, others, others).values, left), strict=True))
    return [found[key] for key in keys(sweep)]


def extrapolated(sweep: Sequence[Workload], least_w: float) -> list[Cell]:
    """The cells at caps below ``least_w``, from a fit to those from there on."""
    others = [key for key in keys(sweep) if key[1] >= least_w]
    left = [key for key in keys(sweep) if key[1] < least_w]
    return list(predictions(sweep, fit(sweep, others, others).values, left))


def metered_once(sweep: Sequence[Workload]) -> list[Cell]:
    """Every workload's cells but the first, from its times, one reading of its power, and what the others drew."""
    cells: list[Cell] = []
    for i, workload in enumerate(sweep):
        left = [(i, cell[0]) for cell in workload.cells[1:]]
        metered = [key for key in keys(sweep) if key not in left]
        cells += predictions(sweep, fit(sweep, keys(sweep), metered).values, left)
    return cells


def verdict(name: str, cells: Sequence[Cell]) -> str:
    """How many cells are as near as promised, and the worst."""
    fast, power, clock = (
        [abs(error) for error in errors]
        for errors in zip(*((c.throughput_error, c.power_error, c.clock_error) for c in cells), strict=True)
    )
    return (
        f"{name}, {len(cells)} cells: "
        f"throughput within 5 % in {sum(e <= 0.05 for e in fast)} (mean {mean(fast):.1%}, worst {max(fast):.1%}), "
        f"power within 8 % in {sum(e <= 0.08 for e in power)} (mean {mean(power):.1%}, worst {max(power):.1%}), "
        f"clock mean {mean(clock):.1%}, worst {max(clock):.1%}"
    )


def main() -> None:
    """Fits, predicts and prints."""
    sweep = read()
    whole, others = fitted(sweep), held_out(sweep)
    low, once = extrapolated(sweep, 400), metered_once(sweep)
    constants = fit(sweep, keys(sweep), keys(sweep))
    if "--json" in sys.argv[1:]:
        found = {
            "fitted": [asdict(c) for c in whole],
            "held_out": [asdict(c) for c in others],
            "extrapolated": [asdict(c) for c in low],
            "metered_once": [asdict(c) for c in once],
            "constants": constants.values,
            "known": constants.known,
        }
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        return
    print("| model | batch | cap, W | tok/s | fitted | held out | W | fitted | held out | MHz | fitted | held out |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
    for a, b in zip(whole, others, strict=True):
        print(
            f"| {a.model} | {a.batch} | {a.cap_w:.0f} "
            f"| {a.tokens_per_s:.1f} | {a.throughput_error:+.1%} | {b.throughput_error:+.1%} "
            f"| {a.power_w:.0f} | {a.power_error:+.1%} | {b.power_error:+.1%} "
            f"| {a.clock_mhz:.0f} | {a.clock_error:+.1%} | {b.clock_error:+.1%} |"
        )
    print()
    print(verdict("fitted", whole))
    print(verdict("each cap held out", others))
    print(verdict("300 and 350 W from a fit to 400 W and more", low))
    print(verdict("power read at 600 W only, the curve from the other workloads", once))
    print(f"\n{len(constants.values)} constants, each ± its relative standard error:")
    print(", ".join(f"{name} {value:.4g} ± {constants.known[name]:.0%}" for name, value in constants.values.items()))


if __name__ == "__main__":
    main()

"""The simulator's model of power caps against a public sweep: python -m benchmarks.power_capping [--json].

One power curve serves all four workloads (two models, at batch 1 and 32); each workload has its own two roofline legs
and their overlap norm. They are fitted to throughput and power at the clocks that were read; the simulator then gets
a cap alone and predicts throughput, power and clock. "fitted" predicts the cells that it was fitted to; "held out"
predicts those at each cap from a fit to all others, so that 300 W lies outside of what it was fitted to. Where a cap
binds, power follows from the cap itself: what is tested there is the clock, and with it the throughput.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import msgspec
import numpy as np
import orjson

from rejoule.replay.calibration.least_squares import Parameter, Vector, least_squares
from rejoule.replay.sim.latency import Demand, LatencyModel
from rejoule.replay.sim.power import Operation, PowerModel
from rejoule.replay.sim.profile import load_profile

SWEEP = Path(__file__).parent / "public_sweeps" / "rtx-pro-6000-vllm.json"

FITTED_CAPS_W = (600.0, 450.0, 350.0)

BASE = load_profile("rtx-pro-6000-llama-3.1-8b")
"""Its GPU has the limits and clocks; the model is replaced by each workload's own legs."""


class Workload(msgspec.Struct, frozen=True):
    """A row of the sweep; each cell is cap (W), tokens a second, mean power (W) and mean SM clock (MHz)."""

    model: str
    batch: int
    cells: tuple[tuple[float, float, float, float], ...]


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
    """The simulator's own latency and power models, with the constants of one fit."""

    def __init__(self, values: Mapping[str, float], workloads: int) -> None:
        curve = msgspec.structs.replace(BASE.power, **{name: values[name] for name in CURVE})
        self._demands = []
        self._profiles = []
        for i in range(workloads):
            memory_s = values[f"memory_s.{i}"]
            self._demands.append(Demand(memory_s * values[f"compute_share.{i}"], memory_s, 0.0, 0.0))
            timing = msgspec.structs.replace(BASE.timing, overlap_norm=values[f"overlap_norm.{i}"], memory_knee=0.0)
            self._profiles.append(msgspec.structs.replace(BASE, timing=timing, power=curve))
        self._latency = [LatencyModel(profile) for profile in self._profiles]
        self._power = [PowerModel(*pair) for pair in zip(self._profiles, self._latency, strict=True)]

    def at_clock(self, workload: int, clock_mhz: float) -> tuple[float, float]:
        """A step's seconds and watts at a clock, whatever the cap."""
        demand = self._demands[workload]
        step_s = self._latency[workload].time(demand, clock_mhz).step_s
        return step_s, self._power[workload].power_at(demand, clock_mhz)

    def under_cap(self, workload: int, cap_w: float) -> Operation:
        """What the simulator makes of a cap."""
        capped = PowerModel(self._profiles[workload], self._latency[workload], cap_w)
        return capped.operate(self._demands[workload])


CURVE = {
    "idle_w": Parameter("idle_w", 80, 20, 130),
    "memory_w": Parameter("memory_w", 60, 1, 300),
    "awake_w": Parameter("awake_w", 60, 1, 300),
    "compute_w": Parameter("compute_w", 180, 1, 900),
    "traffic_w": Parameter("traffic_w", 100, 1, 600),
    "knee": Parameter("knee", 0.93, 0.5, 0.99),
    "voltage_slope": Parameter("voltage_slope", 3.0, 0.05, 8),
}
"""Where the search for the GPU's power curve begins, and its bounds."""


def parameters(sweep: Sequence[Workload]) -> Iterator[Parameter]:
    """The GPU's curve, and for each workload the two legs of its step and their norm."""
    yield from CURVE.values()
    for i, workload in enumerate(sweep):
        yield Parameter(f"memory_s.{i}", workload.batch / workload.cells[0][1], 1e-4, 1)
        yield Parameter(f"compute_share.{i}", 0.5, 0.02, 3)
        yield Parameter(f"overlap_norm.{i}", 2.5, 1, 10)


def fit(sweep: Sequence[Workload], caps_w: Collection[float]) -> tuple[Model, Mapping[str, float]]:
    """The constants that agree best with the cells at ``caps_w``: with their times and watts at the clocks read."""
    chosen = [(i, cell) for i, workload in enumerate(sweep) for cell in workload.cells if cell[0] in caps_w]
    measured = np.array([v for i, cell in chosen for v in (sweep[i].batch / cell[1], cell[2])])

    def predict(values: Mapping[str, float]) -> Vector:
        model = Model(values, len(sweep))
        return np.array([v for i, cell in chosen for v in model.at_clock(i, cell[3])])

    values = least_squares(predict, measured, np.ones(len(measured)), list(parameters(sweep))).values
    return Model(values, len(sweep)), values


def predictions(sweep: Sequence[Workload], model: Model, caps_w: Collection[float]) -> Iterator[Cell]:
    """The cells at ``caps_w``, each from its cap alone."""
    for i, workload in enumerate(sweep):
        for cap_w, tokens_per_s, power_w, clock_mhz in workload.cells:
            if cap_w in caps_w:
                got = model.under_cap(i, cap_w)
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


def fitted(sweep: Sequence[Workload]) -> list[Cell]:
    """Every cell, from a fit to all."""
    caps_w = {cell[0] for cell in sweep[0].cells}
    return list(predictions(sweep, fit(sweep, caps_w)[0], caps_w))


def held_out(sweep: Sequence[Workload]) -> list[Cell]:
    """Every cell, from a fit to those at all other caps."""
    caps_w = {cell[0] for cell in sweep[0].cells}
    cells = [c for cap in caps_w for c in predictions(sweep, fit(sweep, caps_w - {cap})[0], {cap})]
    order = {(c.model, c.batch, c.cap_w): i for i, c in enumerate(fitted(sweep))}
    return sorted(cells, key=lambda c: order[c.model, c.batch, c.cap_w])


def verdict(name: str, cells: Sequence[Cell]) -> str:
    """How many cells are as near as promised, and the worst."""
    fast = [abs(c.throughput_error) for c in cells]
    power = [abs(c.power_error) for c in cells]
    return (
        f"{name}, {len(cells)} cells: "
        f"throughput within 5 % in {sum(e <= 0.05 for e in fast)} (mean {mean(fast):.1%}, worst {max(fast):.1%}), "
        f"power within 8 % in {sum(e <= 0.08 for e in power)} (mean {mean(power):.1%}, worst {max(power):.1%})"
    )


def main() -> None:
    """Fits, predicts and prints."""
    sweep = read()
    whole, others = fitted(sweep), held_out(sweep)
    if "--json" in sys.argv[1:]:
        found = {
            "fitted": [asdict(c) for c in whole],
            "held_out": [asdict(c) for c in others],
            "constants": fit(sweep, {cell[0] for cell in sweep[0].cells})[1],
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
    inner = [c for c in others if 300 < c.cap_w < 600]
    print(f"\n{verdict('fitted', whole)}\n{verdict('held out', others)}\n{verdict('held out, 350 to 550 W', inner)}")


if __name__ == "__main__":
    main()

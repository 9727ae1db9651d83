"""How far voltage falls with the clock, by what was measured: python -m benchmarks.voltage_curve [--write] [FILE …].

Prints what each source says of the sag, which none of them says exactly: a profile's low and high curve lie around
them. Then the curves of the A100's and the Hoppers' profiles beside every measurement that was found.
``--widths`` simulates kept workloads with both, under caps and clock locks; ``--write`` gives the profiles that table.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import exp, log
from pathlib import Path
from statistics import fmean, mean
from typing import Any, Final

import msgspec
import numpy as np
import orjson
from benchmarks.differences import figures
from benchmarks.validation import DATA, ran, written
from msgspec.structs import replace

from rejoule.analysis.summary.summary import trials
from rejoule.replay.calibration.least_squares import Parameter, Vector, least_squares
from rejoule.replay.sim.latency import LatencyModel, Work
from rejoule.replay.sim.power import PowerModel, voltage
from rejoule.replay.sim.profile import CurveWidth, PowerCurve, Profile
from rejoule.replay.sim.shipped import FOLDER, load_profile
from rejoule.traces.run import Configuration
from rejoule.traces.runs import load_runs

SWEEPS: Final = Path(__file__).parent / "public_sweeps"
A100_MHZ: Final = 1410
H200_MHZ: Final = 1980
A100_BASES_W: Final = (40.0, 50.0, 60.0)
"""What an A100 with 300 W draws beside what follows its clock: its idle power, with a program loaded."""
SXM_W: Final = 700.0
PCIE_W: Final = 350.0
SXM_MHZ: Final = 1500.0
"""What an SXM board holds under its limit and full load (tile-ai/TileOPs, issue 1587)."""
SXM_RESTS_W: Final = (80.0, 121.0, 140.0)
"""What an SXM board draws beside what follows its clock: at rest, with a program loaded, with some memory besides."""
KNOWN_MARGIN_W: Final = 8.0
"""A mean power so far below its cap says that the cap did not bind."""

FILES: Final[Mapping[str, tuple[str, str]]] = {
    "h200-llama-3.1-8b": ("h200-llama-3.1-8b", "{}.json"),
    "h200-llama-3.1-8b-tp2": ("h200-llama-3.1-8b-tp2", "{}.json"),
    "h200": ("h200-llama-3.1-8b-tp1", "gpus/{}.json"),
    "h200-data-sheet": ("h200-data-sheet-llama-3.1-8b", "gpus/{}.json"),
    "h100": ("h100-llama-3.1-8b", "gpus/{}.json"),
    "a100": ("a100-llama-3.1-8b", "gpus/{}.json"),
    "a100-40gb": ("a100-40gb-llama-3.1-8b", "gpus/{}.json"),
}
"""Files that hold a clock curve, each with a profile to find its widths with."""
CAPS: Final = (0.0, 0.36, 0.5, 0.72, 0.86)
"""As shares of the default limit; 0 is the least limit that the GPU takes."""
CLOCKS: Final = (0.0, 0.4, 0.6, 0.8)
"""As shares of the greatest clock; 0 is the least that the GPU has."""
LOADS: Final = ("sequential", "agentic")
"""Of the kept workloads, those that are prompts most and answers most."""
BATCHES: Final = (1, 64)
HOPPER: Final = "h200-llama-3.1-8b"
PCIE_REST_W: Final = 80.0
"""What an H100 PCIe draws at rest, with its older memory: assumed."""
SHOWN: Final = ("GPU energy", "makespan", "mean SM clock")
MIDDLE: Final = "middle"
SIDES: Final = (MIDDLE, "low", "high")

Cell = tuple[str, int, str, str]
"""A trace, a batch size, a figure and what it is of: a node, or the figure itself."""


@dataclass(frozen=True)
class Point:
    """A measured power at a clock, of one load."""

    load: str
    clock_mhz: float
    power_w: float


@dataclass(frozen=True)
class Fit:
    """A curve and what each load draws: beside the clock, and with it at the knee's voltage."""

    curve: PowerCurve
    held_w: Mapping[str, float]
    clocked_w: Mapping[str, float]
    known: Mapping[str, float]

    def power_w(self, point: Point, greatest_mhz: float) -> float:
        share = point.clock_mhz / greatest_mhz
        scale = share * float(voltage(self.curve, share)) ** 2
        return self.held_w[point.load] + self.clocked_w[point.load] * scale


def bent(knee: float, slope: float, sag: float, floor: float = 0.0) -> PowerCurve:
    """A curve's shape alone."""
    return PowerCurve(0, 0, 0, 0, 0, knee=knee, voltage_slope=slope, voltage_sag=sag, floor=floor)


def a100_points() -> list[Point]:
    """Of the two kernels, at the clocks that they ran at: the solver's time tells its own, BabelStream's does not."""
    loads = orjson.loads((SWEEPS / "a100-kernels.json").read_bytes())["loads"]
    solver, stream = (load["cells"] for load in loads)
    cycles = fmean(clock * seconds for clock, cap, _, seconds in solver if clock == 1005)
    found = [Point("solver", cycles / seconds, joules / seconds) for _, _, joules, seconds in solver]
    return found + [
        Point("stream", clock, joules / seconds)
        for clock, cap, joules, seconds in stream
        if joules / seconds < cap - KNOWN_MARGIN_W
    ]


def a100_fit(points: Sequence[Point], base_w: float) -> Fit:
    """Knee, slope and sag of both loads together, the solver drawing ``base_w`` whatever the clock."""

    def fitted(values: Mapping[str, float]) -> Fit:
        return Fit(
            bent(values["knee"], values["slope"], values["sag"]),
            {"solver": base_w, "stream": base_w + values["memory_w"]},
            {"solver": values["solver_w"], "stream": values["stream_w"]},
            {},
        )

    def predict(values: Mapping[str, float]) -> Vector:
        found = fitted(values)
        return np.array([found.power_w(point, A100_MHZ) for point in points])

    parameters = (
        Parameter("knee", 0.82, 0.5, 0.99),
        Parameter("slope", 1.0, 0.01, 8),
        Parameter("sag", 0.5, 0.01, 1.2),
        Parameter("memory_w", 20, 0.5, 120),
        Parameter("solver_w", 120, 10, 600),
        Parameter("stream_w", 80, 10, 600),
    )
    found = least_squares(predict, np.array([p.power_w for p in points]), np.ones(len(points)), parameters)
    return replace_known(fitted(found.values), found.known)


def replace_known(fit: Fit, known: Mapping[str, float]) -> Fit:
    return Fit(fit.curve, fit.held_w, fit.clocked_w, known)


def hopper_sag(shape: PowerCurve, sxm_w: float, pcie_w: float, sxm_mhz: float) -> float:
    """What two boards of one chip say of the sag: the same product, so many TFLOP/s an SM, at so many watts in all.

    The clock of the one board follows from that of the other, and v(f)² from the watts an SM beside what rests.
    """
    body = orjson.loads((SWEEPS / "hopper-matmul.json").read_bytes())
    rate = {
        limit: fmean(tflops / sms for cards in body["cards"].values() for at, sms, tflops in cards if at == limit)
        for limit in (350, 700)
    }
    sms = {limit: next(s for c in body["cards"].values() for at, s, _ in c if at == limit) for limit in rate}
    clocks = {700: sxm_mhz / H200_MHZ, 350: sxm_mhz / H200_MHZ * rate[350] / rate[700]}
    watts = {700: sxm_w / sms[700], 350: pcie_w / sms[350]}
    risen = ((watts[700] / clocks[700]) / (watts[350] / clocks[350])) ** 0.5
    # 1 - sag (knee - high) = risen (1 - sag (knee - low)), both clocks being below the knee.
    low, high = shape.knee - clocks[350], shape.knee - clocks[700]
    return float((risen - 1) / (risen * low - high))


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def errors_row(name: str, points: Sequence[Point], power_w: Sequence[float]) -> str:
    off = [found / point.power_w - 1 for found, point in zip(power_w, points, strict=True)]
    clocks = sorted(point.clock_mhz for point in points)
    return row(
        name,
        len(points),
        f"{clocks[0]:.0f} to {clocks[-1]:.0f}",
        f"{mean(map(abs, off)):.1%}",
        f"{max(map(abs, off)):.1%}",
    )


def with_curve(
    points: Sequence[Point], curve: PowerCurve, base_w: Mapping[str, float], greatest_mhz: float
) -> list[float]:
    """Watts that a profile's curve gives, each load's clocked part fitted to its own points."""
    found = []
    for load in dict.fromkeys(point.load for point in points):
        mine = [point for point in points if point.load == load]
        shares = np.array([point.clock_mhz / greatest_mhz for point in mine])
        scale = shares * voltage(curve, shares) ** 2
        part = exp(fmean(log((p.power_w - base_w[load]) / s) for p, s in zip(mine, scale, strict=True)))
        found += [base_w[load] + part * float(s) for s in scale]
    return found


def published(name: str, work: Work, free_w: float, cap_w: float) -> tuple[float, float]:
    """What a cap does to the seconds and joules of a step, against another cap."""
    profile = load_profile(name)
    latency = LatencyModel(profile)
    free, capped = (PowerModel(profile, latency, cap).operate(latency.demand(work)) for cap in (free_w, cap_w))
    return capped.step_s / free.step_s - 1, capped.power_w * capped.step_s / (free.power_w * free.step_s) - 1


def bounded(profile: Profile, side: str) -> Profile:
    """A profile with the low or the high curve that it names, or as it is."""
    curve = profile.clock_curve
    constants = {} if curve is None else getattr(curve, side, {})
    return replace(profile, power=replace(profile.power, **constants))


def widths(name: str) -> Iterator[tuple[str, CurveWidth]]:
    """(``caps`` or ``clocks``, width): the most that ratios to no cap and no lock differ with either curve."""
    profile = load_profile(FILES[name][0])
    gpu = profile.gpu
    caps = sorted({max(gpu.min_power_limit_w, round(share * gpu.default_power_limit_w, -1)) for share in CAPS})
    clocks = sorted({max(gpu.min_clock_mhz, round(share * gpu.max_clock_mhz)) for share in CLOCKS})
    knobs = [("caps", {"power_cap_w": float(cap)}) for cap in caps]
    knobs += [("clocks", {"sm_clock_mhz": float(clock)}) for clock in clocks]
    free = {side: _figures(bounded(profile, side), {}) for side in SIDES}
    for kind, knob in knobs:
        bound = {side: _figures(bounded(profile, side), knob) for side in SIDES}
        found: dict[str, float] = defaultdict(float)
        for cell in sorted(set.intersection(*(set(side) for side in (*free.values(), *bound.values())))):
            ratios = {side: bound[side][cell] / free[side][cell] for side in SIDES}
            off = max(abs(ratios[side] / ratios[MIDDLE] - 1) for side in SIDES)
            found[cell[2]] = max(found[cell[2]], off)
        (at,) = knob.values()
        yield kind, CurveWidth(at, {figure: round(off, 3) for figure, off in sorted(found.items())})


def _figures(profile: Profile, knob: Mapping[str, Any]) -> dict[Cell, float]:
    traces = load_runs(DATA / "workloads").traces
    found: dict[Cell, float] = {}
    with written(profile) as path:
        for name, batch in product(LOADS, BATCHES):
            knobs = Configuration(profile=path, max_num_seqs=batch, arrivals="burst", **knob)
            told = figures(trials([ran(traces[name], knobs, name, f"{name}-{batch}")]))
            found |= {
                (name, batch, group, part): value
                for group, values in told.items()
                for part, value in values.items()
                if value > 0
            }
    return found


def _write(name: str, found: Mapping[str, Sequence[CurveWidth]]) -> None:
    path = FOLDER / FILES[name][1].format(name)
    body = orjson.loads(path.read_bytes())
    body["clock_curve"] |= {kind: msgspec.to_builtins(each) for kind, each in found.items()}
    path.write_bytes(msgspec.json.format(orjson.dumps(body), indent=2) + b"\n")


def print_sources() -> None:
    """What each source says of the sag."""
    print("What measurements say of the sag, with what they do not tell assumed this way and that\n")
    print(row("source", "assumed", "knee", "slope above", "sag below"))
    print(row("---", "---", "--:", "--:", "--:"))
    for base_w in A100_BASES_W:
        curve = a100_fit(a100_points(), base_w).curve
        print(row("A100, two kernels at locked clocks (public)", f"{base_w:.0f} W rest", f"{curve.knee:.3f}",
                  f"{curve.voltage_slope:.2f}", f"{curve.voltage_sag:.2f}"))  # fmt: skip
    shape = load_profile(HOPPER).power
    for rest_w in SXM_RESTS_W:
        sag = hopper_sag(shape, SXM_W - rest_w, PCIE_W - PCIE_REST_W, SXM_MHZ)
        print(
            row(
                "H100 and H800 PCIe at 350 W beside SXM at 700 W (public)", f"{rest_w:.0f} W rest", "", "", f"{sag:.2f}"
            )
        )


def print_table() -> None:
    """The profiles' curves beside every measurement."""
    print("\nThe profiles' curves against measured power, each load's part that follows the clock fitted to itself\n")
    print(row("measured", "readings", "MHz", "mean \\|error\\|", "worst"))
    print(row("---", "--:", "--:", "--:", "--:"))
    a100, hopper = load_profile("a100-llama-3.1-8b"), load_profile(HOPPER)
    base_w = A100_BASES_W[1]
    memory_w = a100_fit(a100_points(), base_w).held_w["stream"]
    for load, held_w in (("solver", base_w), ("stream", memory_w)):
        points = [point for point in a100_points() if point.load == load]
        print(errors_row(f"A100, {load}", points, with_curve(points, a100.power, {load: held_w}, A100_MHZ)))
    print("\nPublished effects of caps, beside the profiles'\n")
    print(row("published", "seconds", "joules", "model", "seconds", "joules"))
    print(row("---", "--:", "--:", "---", "--:", "--:"))
    decode = Work(decodes=16, decode_context=16 * 512)
    time, joules = published("a100-llama-3.1-70b-tp4", decode, 250, 175)
    print(row("LLaMA 65B on A100s, 250 to 175 W (Samsi et al., arXiv 2310.03003)", "+6 to +7 %", "-23 %",
              "decode of Llama 70B, batch 16", f"{time:+.0%}", f"{joules:+.0%}"))  # fmt: skip
    latency = LatencyModel(hopper)
    prefill = latency.demand(Work(prefills=1, prefill_tokens=8192, prefill_pairs=8192**2 / 2))
    clock = PowerModel(hopper, latency).operate(prefill).clock_mhz
    print(f"\nAn H200 under {SXM_W:.0f} W and full load holds {SXM_MHZ:.0f} MHz; ", end="")
    print(f"the profile's prefill runs at {clock:.0f} MHz")


def print_widths(write: bool) -> None:
    """What the low and the high curve do to ratios to no cap and no lock, over two workloads at batch 1 and 64."""
    for name in [word for word in sys.argv[1:] if word in FILES] or FILES:
        found: dict[str, list[CurveWidth]] = defaultdict(list)
        for kind, each in widths(name):
            found[kind].append(each)
            print(f"{name}: {each.at:g}", file=sys.stderr, flush=True)
        if write:
            _write(name, found)
        for kind, unit in (("caps", "W"), ("clocks", "MHz")):
            print(f"\n{name}: widths by {kind}\n\n" + row(unit, *SHOWN) + "\n" + row("--:", *["--:"] * len(SHOWN)))
            for each in found[kind]:
                print(row(f"{each.at:g}", *(f"{each.metrics[figure]:.1%}" for figure in SHOWN)))


def main() -> None:
    print_sources()
    print_table()
    if "--widths" in sys.argv or "--write" in sys.argv:
        print_widths("--write" in sys.argv)


if __name__ == "__main__":
    main()

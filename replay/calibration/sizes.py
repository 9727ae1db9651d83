"""Constants of a GPU, from grids of several models on it: what one model's size cannot tell from the GPU's speed.

A lone decode of one model takes its bytes over the bandwidth that is reached, something for each layer, whose kernels
begin and end with the memory not busy, and something for each step: of one model only the sum is known, and a fit puts
all of it into whichever constant is free. Models that differ in bytes and in layers tell them apart, as far as the
standard errors say: two hardly part what a layer takes from what a step takes, and a third that is one of them with
fewer layers does. Of launches, what the host does for a layer is told from what it does for a step; keys and values are
read in another way than weights, and have an efficiency of their own. Everything else is shared as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from rejoule.replay.calibration.api import api_delays, unseen_note
from rejoule.replay.calibration.calibrate import RECORD, ROUNDS, UNDETERMINED, Seen, seen_in, sources_of
from rejoule.replay.calibration.capping import best_cap, capped, clocked, unclocked_note
from rejoule.replay.calibration.clock_curve import found_curve
from rejoule.replay.calibration.fit import (
    TIMING,
    Drawn,
    Errors,
    Timed,
    far_note,
    fit_times,
    fit_watts,
    parameters,
    power_errors,
    timing_errors,
    timing_start,
    with_values,
)
from rejoule.replay.calibration.least_squares import Parameter
from rejoule.replay.calibration.origin import check_measured, measured_on
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import GpuFile
from rejoule.traces import RejouleError
from rejoule.traces.run import Run

SHARED: Final = TIMING | {"per_layer_s": (1e-7, 1e-3), "cache_efficiency": (0.05, 1.0)}
"""Of ``Timing``, what is the GPU's and the host's."""
LAYERED: Final = {"host_prefill_s": (1e-7, 1e-2), "host_eager_s": (1e-7, 1e-2)}
"""What each layer adds: a graph, or its kernels, that the host launches."""
LAYER: Final = "layer."


@dataclass(frozen=True, slots=True)
class Size:
    """A model, by a profile of it on the GPU, and what was measured of it."""

    base: Profile
    runs: Sequence[Run]


@dataclass(frozen=True, slots=True)
class GpuCalibration:
    """A GPU's constants, and what the fit is worth."""

    name: str
    file: GpuFile
    known: Mapping[str, float]
    """Relative standard error of each constant that was fitted."""
    timing: Mapping[str, Mapping[str, Errors]]
    """By model, of spans of engine steps by kind."""
    power: Mapping[str, Errors]
    """By model; empty where only times were fitted."""
    notes: tuple[str, ...] = ()

    @property
    def undetermined(self) -> frozenset[str]:
        """Constants that stay near the base's values, since the data say little of them."""
        return frozenset(name for name, error in self.known.items() if error > UNDETERMINED)

    def as_json(self) -> dict[str, Any]:
        return {
            "gpu": self.name,
            "timing": msgspec.to_builtins(self.file.timing),
            "layer": dict(self.file.layer),
            "power": msgspec.to_builtins(self.file.power),
            "clock_curve": msgspec.to_builtins(self.file.clock_curve),
            "relative_standard_error": dict(self.known),
            "not_determined": sorted(self.undetermined),
            "errors": {
                model: msgspec.to_builtins(dict(kinds)) | ({"power": self.power[model]} if model in self.power else {})
                for model, kinds in self.timing.items()
            },
            "provenance": dict(self.file.provenance),
            "notes": list(self.notes),
        }


def calibrate_gpu(name: str, sizes: Sequence[Size], *, timing_only: bool = False) -> GpuCalibration:
    """Fits one set of constants to the grids of all ``sizes``, from those of the first one's base.

    Raises RejouleError if they are not of one GPU, or of models that differ in nothing, and as ``calibrate`` does.
    """
    _check(sizes, timing_only=timing_only)
    bases = [size.base for size in sizes]
    first = bases[0]
    runs = [run for size in sizes for run in size.runs]
    held = clocked(runs)
    seen = [seen_in(size.runs, size.base) for size in sizes]
    for size, each in zip(sizes, seen, strict=True):
        if not each.bins:
            raise RejouleError(f"the runs of {size.base.name} hold no engine steps", RECORD)
        if not each.readings and not timing_only:
            raise RejouleError(
                f"the runs of {size.base.name} hold no power readings with SM clocks", f"{RECORD}; or fit --timing-only"
            )
    file, known = _timing(_begin(first), bases, seen)
    if not timing_only:
        for _ in range(ROUNDS):
            power, _ = fit_watts(_drawn(file, bases, seen), clocked=held)
            file = replace(file, power=power)
            fitted = _profiles(file, bases)
            under = [(p, run) for p, size in zip(fitted, sizes, strict=True) for run in capped(size.runs)]
            file = replace(file, power=best_cap(power, under))
            seen = [seen_in(size.runs, p) for size, p in zip(sizes, _profiles(file, bases), strict=True)]
            file, known = _timing(file, bases, seen)
        power, drawn = fit_watts(_drawn(file, bases, seen), clocked=held)
        file = replace(file, power=power)
        known |= {f"power.{k}": v for k, v in drawn.known.items()}
    notes = []
    delays = api_delays(runs)
    if delays is None:
        notes.append(unseen_note(first.name))
    elif any(run.configuration.engine != "sim" for run in runs):
        file = replace(file, timing=replace(file.timing, **delays.values))
        known |= {f"timing.{k}": v for k, v in delays.known.items()}
    if not (timing_only or held):
        notes.append(unclocked_note(first.name))
    fitted = _profiles(file, bases)
    told = {size.base.name: measured_on(size.base, size.runs, timing_only) for size in sizes}
    if len({each.get("host") for each in told.values()}) > 1:
        notes.append("the models ran on different hosts: launch times are taken for those of one")
    if len({each.get("gpus") for each in told.values()}) > 1:
        notes.append("the models ran on different cards of the GPU: their watts are taken for those of one")
    timing = {p.name: timing_errors(p, s.spans) for p, s in zip(fitted, seen, strict=True)}
    notes += [note for model, kinds in timing.items() if (note := far_note(model, kinds)) is not None]
    power_off = {} if timing_only else {p.name: power_errors(p, s.readings) for p, s in zip(fitted, seen, strict=True)}
    readings = [reading for each in seen for reading in each.readings]
    file = replace(
        file,
        source=f"{'Timing' if timing_only else 'Timing and power'} fitted to measurements of {_listed(bases)} on "
        f"{first.gpu.name}; the rest is that of {first.name}.",
        calibrated=not timing_only,
        sources={k: v for k, v in sources_of(first, known, timing_only).items() if k not in ("model", "serving")},
        provenance=_together(told),
        clock_curve=first.clock_curve if timing_only else found_curve(first, fitted[0], runs, readings),
    )
    return GpuCalibration(name, file, known, timing, power_off, tuple(notes))


def _check(sizes: Sequence[Size], *, timing_only: bool) -> None:
    for a, b in pairwise(size.base for size in sizes):
        if a.gpu.name != b.gpu.name or (a.tensor_parallel, b.tensor_parallel) != (1, 1):
            raise RejouleError(
                f"{a.name} and {b.name} are not both of one {a.gpu.name}",
                "give --base of one GPU, and of several models",
            )
    if len({size.base.model for size in sizes}) < len(sizes):
        raise RejouleError("two --base are of the same model", "one model's runs are fitted with one --base")
    for size in sizes:
        check_measured(size.base, size.runs, timing_only=timing_only)
        for run in size.runs:
            told = PurePath(str(run.engine.get("model") or run.engine.get("profile") or "")).name
            if any(_is_of(told, other.base) for other in sizes) and not _is_of(told, size.base):
                raise RejouleError(
                    f"{run.id} is of {told}, and was given with --base {size.base.name}",
                    "give as many --base as RUNS, in the order of RUNS",
                )


def _is_of(told: str, base: Profile) -> bool:
    """Whether a run's word for its model, or its profile, is that of ``base``."""
    return bool(told) and (told == base.name or base.name.endswith(f"-{told}"))


def _begin(first: Profile) -> GpuFile:
    """Of what a step and a launch take, as one model knows it, half is its own and half is its layers'."""
    start, layers = timing_start(first.timing), first.model.layers
    step_s = start.per_step_s + layers * start.per_layer_s
    halves = {name: getattr(start, name) / 2 for name in LAYERED} | {"per_step_s": step_s / 2}
    timing = replace(
        start,
        **halves,
        per_layer_s=step_s / 2 / layers,
        cache_efficiency=start.cache_efficiency or start.memory_efficiency,
    )
    layer = {name: halves[name] / layers for name in LAYERED}
    return GpuFile(first.source, first.gpu, timing, first.power, first.sources, first.clock_curve, layer=layer)


def _timing(held: GpuFile, bases: Sequence[Profile], seen: Sequence[Seen]) -> tuple[GpuFile, dict[str, float]]:
    def file(values: Mapping[str, float]) -> GpuFile:
        layer = {name: values[f"{LAYER}{name}"] for name in LAYERED}
        return replace(held, timing=with_values(held.timing, values), layer=layer)

    def tried(profile: Profile, values: Mapping[str, float]) -> Profile:
        return replace(profile, timing=file(values).timing_of(profile.model))

    sought = [
        *parameters(held.timing, SHARED),
        *(Parameter(f"{LAYER}{name}", held.layer[name], low, high) for name, (low, high) in LAYERED.items()),
    ]
    times = [Timed(p, s.bins, s.launches) for p, s in zip(_profiles(held, bases), seen, strict=True)]
    found = fit_times(times, sought, tried)
    return file(found.values), {k if k.startswith(LAYER) else f"timing.{k}": v for k, v in found.known.items()}


def _profiles(file: GpuFile, bases: Sequence[Profile]) -> list[Profile]:
    return [replace(base, timing=file.timing_of(base.model), power=file.power) for base in bases]


def _drawn(file: GpuFile, bases: Sequence[Profile], seen: Sequence[Seen]) -> list[Drawn]:
    return [Drawn(p, s.readings) for p, s in zip(_profiles(file, bases), seen, strict=True)]


def _together(told: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What each model's runs say of where they ran, each said once."""
    names = dict.fromkeys(name for each in told.values() for name in each)
    between = {"host": "; "}
    found = {
        name: between.get(name, ", ").join(dict.fromkeys(each[name] for each in told.values() if name in each))
        for name in names
        if name != "base"
    }
    return {"base": ", ".join(told), **found}


def _listed(bases: Sequence[Profile]) -> str:
    return " and ".join(base.name for base in bases)

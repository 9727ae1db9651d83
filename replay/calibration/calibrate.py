"""From measured runs to a profile that says where it came from and how far off it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from rejoule.replay.calibration.api import api_delays, unseen_note
from rejoule.replay.calibration.capping import cap_of, capped, clocked, fit_cap, highest_clock, unclocked_note
from rejoule.replay.calibration.clock_curve import found_curve
from rejoule.replay.calibration.fit import (
    Errors,
    far_note,
    fit_power,
    fit_timing,
    power_errors,
    timing_errors,
)
from rejoule.replay.calibration.observations import (
    Bin,
    Launch,
    ObservedStep,
    PowerReading,
    Span,
    binned,
    launches,
    observed_steps,
    power_readings,
    spans,
    whole_run,
)
from rejoule.replay.calibration.origin import check_measured, measured_on, on_their_gpus, serving
from rejoule.replay.sim.profile import Profile
from rejoule.traces import RejouleError
from rejoule.traces.run import Run

RECORD: Final = (
    "replay the calibration grid on a server that ReJoule starts, on the GPU's machine: rejoule calibrate --grid-only "
    "-o grid.jsonl.zst, then rejoule replay grid.jsonl.zst -o RUNS --engine vllm --option model=NAME"
)
ROUNDS: Final = 2
CAP_SOURCE: Final = "of a few pairs the one that explains the power readings best"
MEMORY_SOURCE: Final = "slope of the memory's own power reading over the share of the time that it was busy"
UNDETERMINED: Final = 0.5
"""A constant whose relative standard error stays above this was not determined by the data."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted profile, and what the fit is worth."""

    profile: Profile
    known: Mapping[str, float]
    """Relative standard error of each constant that was fitted."""
    timing: Mapping[str, Errors]
    """Of spans of engine steps, by kind, in the runs that were fitted."""
    power: Errors | None
    held_out: Mapping[str, Errors] = field(default_factory=dict)
    """Of runs that were not fitted: ``step time``, ``power`` and ``energy of a run``."""
    notes: tuple[str, ...] = ()

    @property
    def undetermined(self) -> frozenset[str]:
        """Constants that stay near the base's values, since the data say little of them."""
        return frozenset(name for name, error in self.known.items() if error > UNDETERMINED)

    def as_json(self) -> dict[str, Any]:
        return {
            "profile": self.profile.name,
            "timing": msgspec.to_builtins(self.profile.timing),
            "power": msgspec.to_builtins(self.profile.power),
            "clock_curve": msgspec.to_builtins(self.profile.clock_curve),
            "relative_standard_error": dict(self.known),
            "errors": {kind: asdict(found) for kind, found in self.timing.items()}
            | {"power": None if self.power is None else asdict(self.power)},
            "held_out": {what: asdict(found) for what, found in self.held_out.items()},
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Seen:
    """What runs show of the engine's steps and of power."""

    spans: list[Span]
    bins: list[Bin]
    launches: list[Launch]
    readings: list[PowerReading]


def calibrate(
    base: Profile, name: str, runs: Sequence[Run], held_out: Sequence[Run] = (), *, timing_only: bool = False
) -> Calibration:
    """Fits ``base`` to ``runs``; the errors on ``held_out`` are stated.

    Raises RejouleError if the engine's steps or the GPUs' power were not recorded, or the runs are of other hardware.
    """
    base = on_their_gpus(base, runs)
    check_measured(base, runs, timing_only=timing_only)
    seen = seen_in(runs, base)
    if not seen.bins:
        raise RejouleError("the runs hold no engine steps", RECORD)
    if not seen.readings and not timing_only:
        raise RejouleError("the runs hold no power readings with SM clocks", f"{RECORD}; or fit --timing-only")
    held = clocked(runs)
    profile, found = fit_timing(base, seen.bins, seen.launches)
    if not timing_only:
        # Which clock a step can have had follows from its power, and the other way round.
        for _ in range(ROUNDS):
            power, _ = fit_power(profile, seen.readings, clocked=held)
            profile = fit_cap(replace(base, timing=profile.timing, power=power.power), capped(runs))
            seen = seen_in(runs, profile)
            profile, found = fit_timing(profile, seen.bins, seen.launches)
    known = {f"timing.{k}": v for k, v in found.known.items()}
    notes = []
    delays = api_delays(runs)
    if delays is None:
        notes.append(unseen_note(base.name))
    elif any(run.configuration.engine != "sim" for run in runs):
        profile = replace(profile, timing=replace(profile.timing, **delays.values))
        known |= {f"timing.{k}": v for k, v in delays.known.items()}
    errors_of_power = None
    if not timing_only:
        profile, drawn = fit_power(profile, seen.readings, clocked=held)
        known |= {f"power.{k}": v for k, v in drawn.known.items()}
        errors_of_power = power_errors(profile, seen.readings)
    if not (timing_only or held):
        notes.append(unclocked_note(base.name))
    if any(step.clock_mhz is None for span in seen.spans for step in span.steps):
        notes.append(f"steps without a known SM clock were taken to have run at {base.gpu.max_clock_mhz} MHz")
    apart = seen_in(held_out, profile)
    errors: dict[str, Errors] = {}
    if apart.spans:
        errors["step time"] = timing_errors(profile, apart.spans)["all"]
    if not timing_only:
        if apart.readings:
            errors["power"] = power_errors(profile, apart.readings)
        whole = [whole_run(run, list(_steps(run, profile)), base.gpu.max_clock_mhz) for run in held_out]
        if whole := [w for w in whole if w is not None]:
            errors["energy of a run"] = power_errors(profile, whole)
    within = timing_errors(profile, seen.spans)
    if (far := far_note(base.name, within)) is not None:
        notes.append(far)
    profile = replace(
        profile,
        name=name,
        source=_source(base, runs, timing_only),
        calibrated=not timing_only,
        serving=serving(base.serving, runs),
        sources=sources_of(base, known, timing_only),
        provenance=_provenance(base, runs, seen, within, errors_of_power),
        held_out={f"{what} MAPE": round(found.mape, 5) for what, found in errors.items()},
        # Known of the base, not of what was fitted here.
        expected_error=None,
        clock_curve=base.clock_curve if timing_only else found_curve(base, profile, runs, seen.readings),
    )
    return Calibration(profile, known, within, errors_of_power, errors, tuple(notes))


def write_profile(profile: Profile, path: Path) -> None:
    """Writes a complete profile, as ``load_profile`` reads it."""
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")
    except OSError as error:
        raise RejouleError(f"cannot write {path}: {error.strerror}", "choose a folder that you may write to") from error


def _steps(run: Run, profile: Profile) -> Iterator[ObservedStep]:
    return observed_steps(run, highest_clock(profile, cap_of(run)))


def seen_in(runs: Sequence[Run], profile: Profile) -> Seen:
    """Of ``runs``; ``profile`` says which clocks steps cannot have had."""
    steps = [(run, list(_steps(run, profile))) for run in runs]
    workers = profile.tensor_parallel > 1
    found = [span for _, own in steps for span in spans(own, workers)]
    readings = [reading for run, own in steps for reading in power_readings(run, own)]
    # No step waits for what workers launch behind it.
    return Seen(found, binned(found), [] if workers else launches(found), readings)


def _source(base: Profile, runs: Sequence[Run], timing_only: bool) -> str:
    server = next((run.engine for run in runs if "version" in run.engine), {})
    what = "Timing" if timing_only else "Timing and power"
    by = f"{server.get('engine', 'vllm')} {server['version']}" if server else "the simulated engine"
    return f"{what} fitted to measurements of {by} on {base.gpu.name}; the rest is that of {base.name}."


def sources_of(base: Profile, known: Mapping[str, float], timing_only: bool) -> dict[str, str]:
    """Where each constant comes from, by how well it is ``known``."""
    fitted = {
        name: f"fitted; relative standard error {error:.2g}"
        if error <= UNDETERMINED
        else f"not determined by the measurements; near that of {base.name}"
        for name, error in known.items()
    }
    if not timing_only:
        fitted |= dict.fromkeys(("power.cap_peak", "power.cap_window_s"), CAP_SOURCE)
        if "power.memory_w" not in known:
            fitted["power.memory_w"] = MEMORY_SOURCE
    return {**base.sources, **fitted}


def _provenance(
    base: Profile, runs: Sequence[Run], seen: Seen, within: Mapping[str, Errors], power: Errors | None
) -> dict[str, str]:
    return {
        **measured_on(base, runs, power is None),
        "steps": str(sum(s.steps for span in seen.spans for s in span.steps)),
        "bins": str(len(seen.bins)),
        "readings": str(len(seen.readings)),
        "step time MAPE": f"{within['all'].mape:.4f}",
        **({} if power is None else {"power MAPE": f"{power.mape:.4f}"}),
    }

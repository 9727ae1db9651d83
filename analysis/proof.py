"""What another party needs to check a claim: certificates, conditions, sensors, limits, and the digests of all files.

Frozen dataclasses are the format; `schema` is its JSON Schema, and docs/evidence.schema.json a copy of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from rejoule.analysis.summary.limits import limits
from rejoule.traces.modelled import modelled_notes
from rejoule.traces.ran_on import stated
from rejoule.traces.refused import FILE as REFUSED
from rejoule.traces.refused import Refused
from rejoule.traces.run import Certificate, Conditions, Energy, PowerCap, Run, knobs
from rejoule.traces.runs import Experiment, RunFolder
from rejoule.traces.seal import file_digest

FORMAT_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Around:
    """What held around a measured run; temperatures in °C, power in W."""

    cards: tuple[str, ...]
    """A digest of each GPU's UUID: equal for the same card, without naming it."""
    driver: str | None
    start_temperature_c: float | None
    end_temperature_c: float | None
    sm_clock_mhz: float | None
    locked_clock_mhz: float | None
    thermal_s: float | None
    brake_s: float | None
    bare_w: float | None
    """Idle power before the server was started, with its model loaded, and after the run."""
    loaded_w: float | None
    after_w: float | None
    warm_ups: int | None
    foreign_processes: int
    sampler: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """One run."""

    id: str
    trace: str
    trace_digest: str
    knobs: Mapping[str, Any]
    trial: int
    measured: bool
    """Whether the joules were measured rather than modelled."""
    energy: Energy
    power_cap: PowerCap
    makespan_s: float
    calls: int
    failed_calls: int
    certificate: Certificate
    conditions: Around | None
    """``None`` where nothing was measured."""
    ran_on: Mapping[str, Any]
    """What the engine said of itself that another run must find the same, digests with it."""
    rejoule: str | None
    """The version that made the run."""
    rejected: tuple[str, ...]
    """Why its joules should not be used."""
    calibrated: bool | None = None
    """Whether the profile that it was simulated with was fitted to measurements; ``None`` where no profile says."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A run that was planned and is not here."""

    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A run folder; ``files`` are SHA-256 by path within it."""

    format_version: int
    rejoule: str
    """The version of the plan."""
    traces: Mapping[str, str]
    """Digest of each trace by its name."""
    trials: int
    seed: int
    runs: tuple[RunEvidence, ...]
    left_out: tuple[LeftOut, ...]
    limits: tuple[str, ...]
    modelled: tuple[str, ...] = ()
    """What stands against reading simulated figures as measured: what their profiles, options and caps are worth."""
    files: Mapping[str, str] = field(default_factory=dict)


def of_folder(folder: RunFolder, refused: Sequence[Refused]) -> Evidence:
    """With the digests of the folder's files. Raises OSError."""
    return replace(of_runs(folder.runs, folder.experiment, refused), files=digests(folder.path))


def of_runs(runs: Sequence[Run], experiment: Experiment, refused: Sequence[Refused]) -> Evidence:
    """Without files."""
    here, reasons = {run.id for run in runs}, {one.run: one.reason for one in refused}
    missing = [run.id for run in experiment.runs if run.id not in here]
    return Evidence(
        FORMAT_VERSION,
        experiment.rejoule_version,
        experiment.traces,
        experiment.trials,
        experiment.seed,
        tuple(map(_run, runs)),
        tuple(LeftOut(name, reasons.get(name, "not finished")) for name in missing),
        tuple(limits(runs)),
        tuple(modelled_notes(runs)),
    )


def as_of(version: int, found: Evidence) -> Evidence:
    """What a file of an older format says of the same runs."""
    if version >= FORMAT_VERSION:
        return found
    return replace(
        found, format_version=version, modelled=(), runs=tuple(replace(run, calibrated=None) for run in found.runs)
    )


def digests(path: Path) -> dict[str, str]:
    """Of the plan, its traces and its finished runs. Raises OSError."""
    files = [path / "experiment.json", path / REFUSED, *path.glob("traces/*"), *path.glob("runs/[!.]*/*")]
    return {f.relative_to(path).as_posix(): file_digest(f) for f in sorted(files) if f.is_file()}


def schema() -> dict[str, Any]:
    """The JSON Schema of a file of evidence."""
    found = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Evidence)))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "ReJoule evidence", **found}


def _run(run: Run) -> RunEvidence:
    around = run.conditions
    return RunEvidence(
        run.id,
        run.trace,
        run.trace_digest,
        knobs(run.configuration),
        run.trial,
        run.measured,
        run.energy,
        run.power_cap,
        run.makespan_s,
        len(run.calls),
        len(run.failed_calls),
        run.certificate,
        None if around is None else _around(around),
        stated(run.configuration, run.engine),
        run.engine.get("rejoule"),
        () if around is None else around.rejected,
        run.engine.get("calibrated"),
    )


def _around(found: Conditions) -> Around:
    return Around(
        tuple(hashlib.sha256(gpu.encode()).hexdigest()[:16] for gpu in found.gpus),
        found.driver,
        found.start_temperature_c,
        found.end_temperature_c,
        found.sm_clock_mhz,
        found.locked_clock_mhz,
        found.thermal_s,
        found.brake_s,
        found.bare_w,
        found.loaded_w,
        found.after_w,
        found.warm_ups,
        len(found.foreign_processes),
        found.sampler,
    )

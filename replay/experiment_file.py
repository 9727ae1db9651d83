"""Experiments written down: a TOML file with the traces, the fixed knobs and the swept ones."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rejoule.replay.plan import Sweep
from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration

SWEPT = ("max_num_seqs", "power_cap_w", "sm_clock_mhz", "input_scale", "output_scale")


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    traces: list[str]
    trials: int = 1
    seed: int = 0
    configuration: dict[str, Any] = {}
    sweep: dict[str, list[float]] = {}


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    traces: tuple[Path, ...]
    """Relative paths count from the file's folder."""
    configurations: tuple[Configuration, ...]
    trials: int
    seed: int


def read(path: Path) -> ExperimentFile:
    """Reads an experiment file. Raises RejouleError naming the key that is wrong."""
    remedy = "see docs/experiments.md for an experiment file"
    try:
        body = msgspec.convert(tomllib.loads(path.read_text()), _File)
        unknown = sorted(set(body.sweep) - set(SWEPT))
        if unknown:
            raise RejouleError(f"{path}: {', '.join(unknown)} cannot be swept", f"sweep any of {', '.join(SWEPT)}")
        known = set(Configuration.__dataclass_fields__)
        if unknown := sorted(set(body.configuration) - known):
            raise RejouleError(
                f"{path}: no knob is called {', '.join(unknown)}", f"knobs are {', '.join(sorted(known))}"
            )
        base = msgspec.convert({"seed": body.seed, **body.configuration}, Configuration)
    except OSError as error:
        raise RejouleError(f"cannot read {path}: {error.strerror}", "give the path of an experiment file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise RejouleError(f"{path}: {error}", remedy) from None
    if body.trials < 1:
        raise RejouleError(f"{path}: trials must be at least 1", remedy)
    values: dict[str, Any] = {name: [getattr(base, name)] for name in SWEPT} | body.sweep
    if "max_num_seqs" in body.sweep:
        values["max_num_seqs"] = [int(v) for v in body.sweep["max_num_seqs"]]
    configurations = tuple(Sweep(**values).configurations(base))
    return ExperimentFile(tuple(path.parent / t for t in body.traces), configurations, body.trials, body.seed)

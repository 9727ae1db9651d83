"""Experiments written down: a TOML file with the traces, the fixed knobs and the swept ones."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from rejoule.replay.plan import swept
from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    traces: list[str]
    trials: int = 1
    seed: int = 0
    configuration: dict[str, Any] = {}
    sweep: dict[str, list[Any]] = {}


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
        _check(path, body)
        knobs = {"seed": body.seed, **body.configuration}
        base = msgspec.convert(knobs, Configuration)
        configurations = tuple(msgspec.convert(asdict(c), Configuration) for c in swept(base, body.sweep))
    except OSError as error:
        raise RejouleError(f"cannot read {path}: {error.strerror}", "give the path of an experiment file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise RejouleError(f"{path}: {error}", remedy) from None
    return ExperimentFile(tuple(path.parent / t for t in body.traces), configurations, body.trials, body.seed)


def _check(path: Path, body: _File) -> None:
    known = {f.name for f in fields(Configuration)}
    if unknown := sorted((set(body.configuration) | set(body.sweep)) - known):
        raise RejouleError(f"{path}: no knob is called {', '.join(unknown)}", f"knobs are {', '.join(sorted(known))}")
    if twice := sorted(set(body.configuration) & set(body.sweep)):
        raise RejouleError(f"{path}: {', '.join(twice)} is both set and swept", "leave one of them out")
    empty = [name for name, values in {"traces": body.traces, **body.sweep}.items() if not values]
    if empty:
        raise RejouleError(f"{path}: {empty[0]} is an empty list", "give at least one value")
    if body.trials < 1:
        raise RejouleError(f"{path}: trials must be at least 1", "give trials = 1 or more")

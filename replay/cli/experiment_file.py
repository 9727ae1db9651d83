"""Experiments written down: a TOML file with the traces, the fixed knobs and the swept ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from rejoule.replay.plan import configurations
from rejoule.traces import RejouleError
from rejoule.traces.run import OPTION, Configuration, configuration_key
from rejoule.traces.toml_file import read_toml


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    traces: list[str]
    trials: int = 1
    seed: int = 0
    configuration: dict[str, Any] = {}
    sweep: dict[str, Any] = {}
    cells: list[dict[str, Any]] = []


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    traces: tuple[Path, ...]
    """Relative paths count from the file's folder."""
    configurations: tuple[Configuration, ...]
    trials: int
    seed: int


def read(path: Path) -> ExperimentFile:
    """Reads an experiment file. Raises RejouleError naming the key that is wrong."""
    body = read_toml(path, _File, "an experiment file", "see docs/experiments.md for an experiment file")
    try:
        bases = [_within(body.configuration, cell) for cell in body.cells] or [body.configuration]
        made = [configurations({"seed": body.seed, **base}, _named(body.sweep)) for base in bases]
        found = tuple(replace(c, policy=beside(path.parent, c.policy)) for group in made for c in group)
        found = tuple({configuration_key(c): c for c in found}.values())
    except RejouleError as error:
        raise RejouleError(f"{path}: {error.what}", error.remedy) from None
    _check(path, body)
    return ExperimentFile(tuple(path.parent / t for t in body.traces), found, body.trials, body.seed)


def _within(configuration: dict[str, Any], cell: dict[str, Any]) -> dict[str, Any]:
    """A cell with what all cells share; its options are added to theirs."""
    tables = {
        name: {**configuration[name], **cell[name]}
        for name in ("options", "policy_options")
        if isinstance(configuration.get(name), dict) and isinstance(cell.get(name), dict)
    }
    return {**configuration, **cell, **tables}


def beside(folder: Path, policy: str | None) -> str | None:
    """A policy's name; one in a file counts from the experiment's folder, as traces do."""
    return policy if policy is None or ".py:" not in policy else str(folder / policy)


def _named(sweep: dict[str, Any]) -> dict[str, Any]:
    """The sweep with the values of each option under ``options.NAME``, as a table of options has them too."""
    table = sweep.get("options")
    if not isinstance(table, dict):
        return sweep
    plain = {name: values for name, values in sweep.items() if name != "options"}
    options = {f"{OPTION}{name}": values for name, values in table.items()}
    if twice := sorted(plain.keys() & options.keys()):
        raise RejouleError(f"{', '.join(twice)} is swept twice", "leave one of them out")
    return plain | options


def _check(path: Path, body: _File) -> None:
    swept = {name for name in body.sweep if not (name == "options" and isinstance(body.sweep[name], dict))}
    if twice := sorted({*body.configuration, *(name for cell in body.cells for name in cell)} & swept):
        raise RejouleError(f"{path}: {', '.join(twice)} is both set and swept", "leave one of them out")
    if not body.traces:
        raise RejouleError(f"{path}: traces is an empty list", "give at least one value")
    if body.trials < 1:
        raise RejouleError(f"{path}: trials must be at least 1", "give trials = 1 or more")

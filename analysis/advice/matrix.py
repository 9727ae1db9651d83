"""The configurations that runs are of, simulated and measured ones together, and those between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from math import exp, fsum, inf, log, prod
from typing import Any, Final

from rejoule.analysis.advice.places import JOULES_BY_TIME, along, ordered
from rejoule.analysis.advice.reach import SEATS, same_with
from rejoule.analysis.advice.surface import Place
from rejoule.analysis.pairing import meant, setting
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.load import LOAD
from rejoule.analysis.summary.naming import turned
from rejoule.analysis.summary.summary import Metric
from rejoule.traces.engine_options import DEFAULTS
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import OPTION, Configuration, Run, knobs
from rejoule.traces.run_options import of_the_run

Key = tuple[Any, ...]
"""A configuration: its values of the knobs that vary."""

APART: Final = ("engine", "profile", "loops", "seed")
"""Knobs in which cells may differ and still be of one configuration."""
MOST: Final = 5000
"""Combinations beyond which there is no looking at each."""


@dataclass(frozen=True, slots=True)
class Twin:
    """The configuration whose run is the same."""

    key: Key
    why: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    """All combinations of the values that knobs have, and the cells that were run."""

    names: tuple[str, ...]
    levels: tuple[tuple[Any, ...], ...]
    """Of each knob; ascending where they are numbers, with the engine's own last."""
    cells: Mapping[Key, Cell]
    unscaled: frozenset[Key] = frozenset()
    """Simulated cells beside measured ones."""
    scaled_by: Mapping[str, float] = field(default_factory=dict)
    """What simulated figures are multiplied by, so that they agree with measured ones where both are known."""
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> list[Key]:
        return list(product(*self.levels))

    @cached_property
    def ran(self) -> tuple[Key, ...]:
        """Those that were run, and then those that would be the same run as one of them."""
        return (*self.cells, *self.twins)

    @cached_property
    def never_run(self) -> tuple[Key, ...]:
        """The others, in the order of ``keys``."""
        told = set(self.ran)
        return tuple(key for key in self.keys if key not in told)

    def place(self, key: Key) -> Place:
        return tuple(part for held, value in zip(self._places, key, strict=True) for part in held[value])

    @property
    def joules_slopes(self) -> tuple[float, ...]:
        """What the logarithm of joules is thought to change by along each part of a place."""
        return tuple(
            JOULES_BY_TIME if name == SEATS and part == 0 else 0.0
            for name, held in zip(self.names, self._places, strict=True)
            for part in range(len(next(iter(held.values()))))
        )

    @cached_property
    def twins(self) -> Mapping[Key, Twin]:
        """Configurations that were not run, and would be the same run as one that was."""
        found: dict[Key, Twin] = {}
        for key, cell in self.cells.items():
            alike = [
                {own: "", **_same(cell, name, held)}
                for name, own, held in zip(self.names, key, self.levels, strict=True)
            ]
            for other in product(*alike):
                if other not in self.cells:
                    why = [told[value] for told, value in zip(alike, other, strict=True) if told[value]]
                    found.setdefault(other, Twin(key, tuple(dict.fromkeys(why))))
        return found

    @cached_property
    def _places(self) -> tuple[Mapping[Any, Place], ...]:
        return tuple(
            along(name, held, self._loosest(k))
            for k, (name, held) in enumerate(zip(self.names, self.levels, strict=True))
        )

    def _loosest(self, knob: int) -> Run | None:
        """Of the runs, the first of those with the greatest value of a knob."""
        held = self.levels[knob]
        key = max(self.cells, key=lambda key: held.index(key[knob]), default=None)
        return None if key is None else self.cells[key].trials[0].run


def _same(cell: Cell, name: str, values: Sequence[Any]) -> Mapping[Any, str]:
    """Values of a knob with which every trial would have been the same, and why."""
    first, *others = [same_with(trial.run, name, values) for trial in cell.trials]
    return {value: why for value, why in first.items() if all(value in told for told in others)}


def matrix(cells: Sequence[Cell], more: Mapping[str, Sequence[Any]], figures: Sequence[Metric]) -> Matrix:
    """``more`` has values of knobs that were not run, to be thought of as well. Raises RejouleError."""
    there = dict.fromkeys((*knobs(Configuration()), *(n for cell in cells for n in knobs(cell.configuration))))
    more = {name if "." in name else meant(name, there): values for name, values in more.items()}
    if watched := next(filter(of_the_run, more), None):
        raise RejouleError(f"{watched} is how a run is measured, and not a setting", "consider values of other knobs")
    if asked := next((name for name in more if name in LOAD), None):
        raise RejouleError(
            f"{asked} is what is asked of the server, and not a setting", "consider values of other knobs alone"
        )
    names = _names(cells, more)
    known: dict[Key, Cell] = {}
    notes: list[str] = []
    for cell in sorted(cells, key=lambda c: not is_measured(c)):
        key = tuple(setting(cell.configuration, name) for name in names)
        if key in known:
            both = is_measured(known[key]) and is_measured(cell)
            if both or not is_measured(known[key]):
                notes.append(f"{cell.label} is there twice: the first counts")
        else:
            known[key] = cell
    levels = tuple(_levels([*(key[k] for key in known), *more.get(name, ())]) for k, name in enumerate(names))
    if prod(map(len, levels)) > MOST:
        raise RejouleError(
            f"these knobs have {prod(map(len, levels)):,} combinations",
            f"name fewer values: at most {MOST:,} are looked at",
        )
    simulated = frozenset(key for key, cell in known.items() if not is_measured(cell))
    beside = simulated if len(simulated) < len(known) else frozenset()
    shared = _ratios(cells, known, names, figures)
    if beside:
        notes.append(_scaling(shared))
    return Matrix(names, levels, known, beside, shared, tuple(dict.fromkeys(notes)))


def _scaling(ratios: Mapping[str, float]) -> str:
    if not ratios:
        return "no configuration is both measured and simulated: simulated cells are as the model has them"
    return "simulated figures are scaled to the measured ones, by the configurations that are both"


def _ratios(
    cells: Sequence[Cell], known: Mapping[Key, Cell], names: Sequence[str], figures: Sequence[Metric]
) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for cell in cells:
        real = known[tuple(setting(cell.configuration, name) for name in names)]
        if not is_measured(cell) and is_measured(real):
            for metric in figures:
                a, b = cell.mean(metric.value), real.mean(metric.value)
                if a is not None and b is not None and a.value > 0.0 and b.value > 0.0:
                    found.setdefault(metric.name, []).append(log(b.value / a.value))
    return {name: exp(fsum(logs) / len(logs)) for name, logs in found.items()}


def _names(cells: Sequence[Cell], more: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    found = [name for name in turned(cell.configuration for cell in cells) if name not in APART and _is_knob(name)]
    return tuple(dict.fromkeys((*found, *more)))


def _is_knob(name: str) -> bool:
    return not name.startswith(OPTION) or name.removeprefix(OPTION) in DEFAULTS


def is_measured(cell: Cell) -> bool:
    """Whether its joules were: a server of a simulated engine answers in real time, and its joules are modelled."""
    return all(summary.run.measured for summary in cell.trials)


def _levels(found: Iterable[Any]) -> tuple[Any, ...]:
    there = list(dict.fromkeys(found))
    return tuple(sorted(there, key=lambda v: inf if v is None else v)) if ordered(there) else tuple(there)


def configured(like: Configuration, settings: Mapping[str, Any]) -> Configuration:
    """A configuration with these knobs, and options under ``options.NAME``."""
    plain: dict[str, Any] = {"options": dict(like.options), "policy_options": dict(like.policy_options)}
    for name, value in settings.items():
        group, dot, own = name.partition(".")
        if dot and value is None:
            plain[group].pop(own, None)
        elif dot:
            plain[group][own] = value
        elif name != "policy_knows" or value is not None:
            plain[name] = value
    return replace(like, **plain)

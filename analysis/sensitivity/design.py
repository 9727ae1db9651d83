"""A matrix of configurations as a design: knobs with levels, and cells that differ in one knob alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import inf, prod
from typing import Final

from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.naming import describe, label, turned
from rejoule.traces.engine_options import DEFAULTS
from rejoule.traces.run import OPTION, Configuration, knobs

POLICY: Final = "policy"
_OF_POLICIES: Final = ("policy_knows", "policy_options.")


@dataclass(frozen=True, slots=True)
class Knob:
    """What was varied."""

    name: str
    levels: tuple[str, ...]
    """In words, ascending where they are numbers, with the engine's own last; else its default first."""

    @property
    def label(self) -> str:
        return label(self.name)


@dataclass(frozen=True)
class Design:
    """Cells by the levels of all knobs; not every combination needs to be there."""

    knobs: tuple[Knob, ...]
    cells: tuple[Cell, ...]

    @cached_property
    def combinations(self) -> int:
        """How many cells it would have with every level of each knob beside every one of the others."""
        return prod(len(knob.levels) for knob in self.knobs)

    @cached_property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """Of each cell, in the order of ``knobs``."""
        return tuple(tuple(_word(cell.configuration, knob.name) for knob in self.knobs) for cell in self.cells)

    @cached_property
    def place(self) -> dict[tuple[str, ...], int]:
        """Cells by their levels."""
        return {levels: i for i, levels in enumerate(self.levels)}

    def rows(self, knob: int) -> tuple[dict[str, int], ...]:
        """Cells that differ in this knob alone, by its level: a row for each setting of the others."""
        found: dict[tuple[str, ...], dict[str, int]] = {}
        for i, levels in enumerate(self.levels):
            found.setdefault((*levels[:knob], *levels[knob + 1 :]), {})[levels[knob]] = i
        return tuple(row for row in found.values() if len(row) > 1)

    def pairs(self, knob: int) -> Iterator[tuple[str, str, int, int]]:
        """Two levels, in their order, and the two cells that differ in this knob alone."""
        for row in self.rows(knob):
            there = [level for level in self.knobs[knob].levels if level in row]
            yield from ((a, b, row[a], row[b]) for a, b in combinations(there, 2))

    def tied(self, knob: int) -> tuple[str, ...]:
        """Other knobs of which each level of this one saw a single level: they changed together."""
        found = []
        for other in range(len(self.knobs)):
            seen = {(levels[knob], levels[other]) for levels in self.levels}
            if other != knob and len(seen) == len(self.knobs[knob].levels):
                found.append(self.knobs[other].label)
        return tuple(found)


def design(cells: Sequence[Cell]) -> Design:
    """Knobs are what differs between the cells; what a policy knows, and its options, belong to the policy."""
    names = dict.fromkeys(map(_own, turned(cell.configuration for cell in cells)))
    return Design(tuple(Knob(name, _levels(name, cells)) for name in names), tuple(cells))


def _own(name: str) -> str:
    return POLICY if name.startswith(_OF_POLICIES) else name


def _word(configuration: Configuration, name: str) -> str:
    names = [n for n in knobs(configuration) if _own(n) == name] if name == POLICY else [name]
    return describe(configuration, names) or label(name)


def _levels(name: str, cells: Iterable[Cell]) -> tuple[str, ...]:
    values = {_word(cell.configuration, name): knobs(cell.configuration).get(name) for cell in cells}
    usual = DEFAULTS.get(name.removeprefix(OPTION))
    if any(isinstance(v, bool) or not isinstance(v, int | float | None) for v in values.values()):
        return tuple(sorted(values, key=lambda word: values[word] not in (None, usual)))
    return tuple(sorted(values, key=lambda word: inf if (v := values[word]) is None else v))

"""Where what one knob does depends on another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import expm1, fsum, log1p
from typing import Final

from rejoule.analysis.comparison.change import MARGIN
from rejoule.analysis.sensitivity.design import Design
from rejoule.analysis.sensitivity.effects import Effect
from rejoule.analysis.sensitivity.noise import Values
from rejoule.analysis.summary.units import change

SQUARE: Final = 4
"""Cells in a difference of differences; a mean over several of them is given the error of one, which is wider."""


@dataclass(frozen=True, slots=True)
class Interplay:
    """Of two knobs on one figure."""

    knob: str
    start: str
    end: str
    other: str
    """The other knob."""
    at: tuple[str, str]
    """Its two levels."""
    changes: tuple[float, float]
    """What the knob does from ``start`` to ``end`` at each of them, geometric means over settings of further knobs."""
    settings: int

    def __str__(self) -> str:
        first, second = self.changes
        return f"{self.start} → {self.end}: {change(first)} with {self.at[0]}, {change(second)} with {self.at[1]}"


def interplays(design: Design, values: Values, effects: Sequence[Effect]) -> tuple[Interplay, ...]:
    """Those that are shown, beyond ±2 %, the strongest first: differences of differences over four cells.

    Each knob is looked at between the two levels that its effect tells of; cells that are missing leave a pair out.
    """
    places = {knob.name: i for i, knob in enumerate(design.knobs)}
    known = [effect for effect in effects if effect.change is not None]
    pairs = list(combinations(known, 2))
    found = []
    for a, b in pairs:
        squares = list(_squares(design, values, places[a.knob], a, places[b.knob], b))
        if not squares:
            continue
        size = fsum((values.difference(k, m) - values.difference(i, j)) / len(squares) for i, j, k, m in squares)
        cells = [cell for square in squares for cell in square]
        off = fsum((a.allowance or 0.0, b.allowance or 0.0))
        shown = values.differs(size, off, len(pairs), *cells[:SQUARE])
        if shown and abs(size) > log1p(MARGIN):
            near, far = (_mean(values.difference(*ends) for ends in half) for half in _halves(squares))
            found.append(
                (abs(size), Interplay(a.knob, a.start, a.end, b.label, (b.start, b.end), (near, far), len(squares)))
            )
    return tuple(one for _, one in sorted(found, key=lambda item: -item[0]))


def _squares(
    design: Design, values: Values, a: int, of_a: Effect, b: int, of_b: Effect
) -> Iterator[tuple[int, int, int, int]]:
    """Cells at start and end of ``a``, with ``b`` at its start, then at its end; all else alike."""
    for levels in design.levels:
        if (levels[a], levels[b]) != (of_a.start, of_b.start):
            continue
        corners = []
        for second in (of_b.start, of_b.end):
            for first in (of_a.start, of_a.end):
                wanted = [*levels]
                wanted[a], wanted[b] = first, second
                corners.append(design.place.get(tuple(wanted)))
        i, j, k, m = corners
        if i is not None and j is not None and k is not None and m is not None and values.known(i, j, k, m):
            yield i, j, k, m


def _halves(squares: Sequence[tuple[int, int, int, int]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    return [(i, j) for i, j, _, _ in squares], [(k, m) for _, _, k, m in squares]


def _mean(logs: Iterable[float]) -> float:
    listed = list(logs)
    return expm1(fsum(listed) / len(listed))

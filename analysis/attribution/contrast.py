"""What the fits of two sides leave open of the difference between them, line by line.

All trials of a side share one fit, so their spread knows nothing of its error, which does not average out over them
either: it has to be allowed for beside the trials' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, hypot, log1p
from typing import Literal

from rejoule.analysis.attribution.result import Attribution

Line = tuple[Literal["node", "phase"], str]


@dataclass(frozen=True, slots=True)
class Contrast:
    errors: Mapping[Line, float] = field(default_factory=dict)
    """Half-width of the 95 % interval of ``log(B/A)`` that comes of both fits, by line; idle is in both tables. A line
    that is not among them has no error that is known."""
    together: tuple[tuple[str, ...], ...] = ()
    """Nodes that the fit of some side cannot tell apart."""

    def tied_to(self, node: str) -> tuple[str, ...]:
        """The nodes that this one cannot be told from; empty where it stands alone."""
        return next((tuple(n for n in names if n != node) for names in self.together if node in names), ())


def contrast(a: Sequence[Attribution], b: Sequence[Attribution]) -> Contrast:
    """Of the trials of both sides; fits of different runs are independent."""
    sides = [_relative(side) for side in (a, b)]
    errors = {line: hypot(*(log1p(side[line]) for side in sides)) for line in sides[0] if line in sides[1]}
    return Contrast(errors, _joined(names for side in (a, b) for found in side for names in found.uncertainty.together))


def _relative(side: Sequence[Attribution]) -> dict[Line, float]:
    """Half-widths over joules: means over the trials in which both are known, and only where they are in all."""
    found: dict[Line, list[float]] = {}
    for one in side:
        for line, joules, half in _lines(one):
            if half is not None and joules > 0.0:
                found.setdefault(line, []).append(half / joules)
    return {line: fsum(values) / len(values) for line, values in found.items() if len(values) == len(side)}


def _lines(one: Attribution) -> Iterator[tuple[Line, float, float | None]]:
    for name, energy in one.by_node().items():
        yield ("node", name), energy.total_j, energy.uncertainty_j
    for names, energy in one.together().items():
        yield ("node", " + ".join(names)), energy.total_j, energy.uncertainty_j
    phases, sure = one.by_phase(), one.uncertainty
    yield ("phase", "prefill"), phases.prefill_j, sure.prefill_j
    yield ("phase", "decode"), phases.decode_j, sure.decode_j
    yield ("node", "idle"), one.idle_j, sure.idle_j
    yield ("phase", "idle"), one.idle_j, sure.idle_j


def _joined(groups: Iterator[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Groups that share a name become one."""
    found: list[tuple[str, ...]] = []
    for names in groups:
        mine, others = set(names), list[tuple[str, ...]]()
        for group in found:
            if mine & set(group):
                mine |= set(group)
            else:
                others.append(group)
        found = [*others, tuple(sorted(mine))]
    return tuple(found)

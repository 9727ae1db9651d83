"""What the fits of two sides leave open of the difference between them, line by line.

All trials of a side share one fit, so their spread knows nothing of its error, which does not average out over them
either: it has to be allowed for beside the trials' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, hypot, log1p
from typing import Literal, get_args

from rejoule.analysis.attribution.result import Attribution, Names, by_name

Table = Literal["node", "agent", "phase"]

Line = tuple[Table, Names]
"""One name, or by name those whose sum it is; none at all is idle time."""


@dataclass(frozen=True, slots=True)
class Contrast:
    errors: Mapping[Line, float] = field(default_factory=dict)
    """Half-width of the 95 % interval of ``log(B/A)`` that comes of both fits, by line; idle is in all tables. A line
    that is not among them has no error that is known."""
    together: Mapping[Table, tuple[Names, ...]] = field(default_factory=dict)
    """Nodes, and agents, that the fit of some side cannot tell apart."""


def contrast(a: Sequence[Attribution], b: Sequence[Attribution]) -> Contrast:
    """Of the trials of both sides; fits of different runs are independent."""
    sides = [_relative(side) for side in (a, b)]
    errors = {line: hypot(*(log1p(side[line]) for side in sides)) for line in sides[0] if line in sides[1]}
    sure = [one.uncertainty for side in (a, b) for one in side]
    nodes = _joined(names for one in sure for names in one.together)
    return Contrast(errors, {"node": nodes, "agent": _joined(names for one in sure for names in one.agents_together)})


def _relative(side: Sequence[Attribution]) -> dict[Line, float]:
    """Half-widths over joules: means over the trials in which both are known, and only where they are in all."""
    found: dict[Line, list[float]] = {}
    for one in side:
        for line, joules, half in _lines(one):
            if half is not None and joules > 0.0:
                found.setdefault(line, []).append(half / joules)
    return {line: fsum(values) / len(values) for line, values in found.items() if len(values) == len(side)}


def _lines(one: Attribution) -> Iterator[tuple[Line, float, float | None]]:
    for node, energy in one.by_node().items():
        yield ("node", (node,)), energy.total_j, energy.uncertainty_j
    for nodes, energy in one.together().items():
        yield ("node", by_name(nodes)), energy.total_j, energy.uncertainty_j
    for agent, energy in one.by_agent().items():
        yield ("agent", (agent,)), energy.total_j, energy.uncertainty_j
    for agents, energy in one.agents_together().items():
        yield ("agent", by_name(agents)), energy.total_j, energy.uncertainty_j
    phases, sure = one.by_phase(), one.uncertainty
    yield ("phase", ("prefill",)), phases.prefill_j, sure.prefill_j
    yield ("phase", ("decode",)), phases.decode_j, sure.decode_j
    for table in get_args(Table):
        yield (table, ()), one.idle_j, sure.idle_j


def _joined(groups: Iterator[Names]) -> tuple[Names, ...]:
    """Groups that share a name become one."""
    found: list[Names] = []
    for names in groups:
        mine, others = set(names), list[Names]()
        for group in found:
            if mine & set(group):
                mine |= set(group)
            else:
                others.append(group)
        found = [*others, by_name(mine)]
    return tuple(found)

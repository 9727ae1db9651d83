"""What the tool says of a made run, held against its truth."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Final

import numpy as np
from benchmarks.judge.made import Judged

from rejoule.analysis.attribution import Attribution, attribute
from rejoule.traces.run import Run

KINDS: Final = ("nodes", "calls", "phases", "idle")
LEAST_HELD: Final = 0.92
WIDEST: Final = 3.0
"""Stated width over the error."""
NARROW: Final = 0.02
"""Half-widths up to this, relative, are not too wide, however small the error."""


@dataclass(frozen=True, slots=True)
class Said:
    """A line as printed: its joules, and half of its 95 % interval, ``None`` where none is stated."""

    joules: float
    half_j: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of one run against the truth."""

    kind: str
    error: float
    """(said − true) / true."""
    half: float | None
    """Stated half-width, relative to the truth."""


def unnumbered(why: str) -> str:
    """A reason without its figures, so that equal ones can be counted."""
    return re.sub(r"\d[\d,.]*", "…", why)


def told(run: Run) -> tuple[str | None, dict[tuple[str, str], Said]]:
    """Why joules are withheld, if they are, and every line that the tool prints of a run alone."""
    found = attribute(run)
    if found is None:
        return "not measured", {}
    return found.withheld, dict(_lines(found))


def _lines(found: Attribution) -> Iterator[tuple[tuple[str, str], Said]]:
    for name, node in found.by_node().items():
        yield ("nodes", name), Said(node.total_j, node.uncertainty_j)
    for names, energy in found.together().items():
        yield ("nodes", " + ".join(names)), Said(energy.total_j, energy.uncertainty_j)
    apart = found.uncertainty.tied
    for call in found.calls:
        if call.node in apart:
            yield ("calls", call.call), Said(call.energy.total_j, None)
            continue
        yield ("calls", call.call), Said(call.energy.total_j, call.energy.uncertainty_j)
    phases, sure = found.by_phase(), found.uncertainty
    yield ("phases", "prefill"), Said(phases.prefill_j, sure.prefill_j)
    yield ("phases", "decode"), Said(phases.decode_j, sure.decode_j)
    yield ("idle", "idle"), Said(found.idle_j, sure.idle_j)


def marks(judged: Judged) -> tuple[str | None, list[Mark]]:
    withheld, said = told(judged.run)
    return withheld, list(compared(said, judged.lines()))


def compared(said: Mapping[tuple[str, str], Said], true: Mapping[tuple[str, str], float]) -> Iterator[Mark]:
    for line, mine in said.items():
        kind, name = line
        # Lines of nodes together are named after all of them.
        joules = true.get(line) or fsum(true.get((kind, part), 0.0) for part in name.split(" + "))
        if joules > 0.0:
            half = None if mine.half_j is None else mine.half_j / joules
            yield Mark(line[0], mine.joules / joules - 1.0, half)


@dataclass(frozen=True, slots=True)
class Score:
    """All lines of one kind over the runs of a load."""

    bias: float
    """Mean error."""
    error: float
    """The half-width that would have held 95 %: that share of all errors is smaller."""
    stated: float | None
    """Median stated half-width; ``None`` where no line states one."""
    held: float | None
    """Share of the stated intervals that hold the truth."""

    @property
    def over(self) -> float | None:
        """Stated width over the error: 1 is as wide as it has to be."""
        return None if self.stated is None else self.stated / self.error

    @property
    def keeps(self) -> bool:
        if self.held is None or self.over is None or self.stated is None:
            return True
        return self.held >= LEAST_HELD and (self.over <= WIDEST or self.stated <= NARROW)


def score(found: Iterable[Mark]) -> Score | None:
    listed: Sequence[Mark] = list(found)
    if not listed:
        return None
    widths = [(abs(mark.error), mark.half) for mark in listed if mark.half is not None]
    # Where some lines state no width, those that do are held to theirs.
    errors = [error for error, _ in widths] or [abs(mark.error) for mark in listed]
    return Score(
        fsum(mark.error for mark in listed) / len(listed),
        float(np.quantile(errors, 0.95)),
        float(np.median([half for _, half in widths])) if widths else None,
        fsum(error <= half for error, half in widths) / len(widths) if widths else None,
    )

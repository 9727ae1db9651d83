"""Whether one knob moves a metric by more than any other knob that was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import expm1
from statistics import fmean

from rejoule.analysis.findings.by_node import Compared
from rejoule.analysis.findings.effect import Effect, UnknownError, Verdict, effect, values
from rejoule.analysis.findings.finding import Finding
from rejoule.analysis.findings.lacking import one_value
from rejoule.analysis.findings.place import Place, Series, levers
from rejoule.analysis.findings.reading import TOO_CLOSE, Reading, nodes_of, source_of, unknown
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.naming import label
from rejoule.analysis.summary.units import percent


@dataclass(frozen=True)
class Reach:
    """The most that a knob does to a metric, all other knobs as they are: from its dearest value to its cheapest."""

    knob: str
    effect: Effect
    cells: tuple[Cell, Cell]

    @property
    def size(self) -> float:
        return -self.effect.middle

    def edges(self) -> tuple[float, float] | None:
        """The least and the most that it may be, as logarithms of a ratio; ``None`` where nothing is known of it."""
        half = self.effect.half
        return None if half is None else (max(0.0, self.size - half), self.size + half)

    def __str__(self) -> str:
        return f"{label(self.knob)} {percent(-expm1(-self.size))} ({self.effect.a} → {self.effect.b})"


def strongest(finding: Finding, places: Sequence[Place]) -> Iterator[Reading]:
    """A reading a workload: the knob's reach against that of each other one.

    Knobs of a workload may have been run in several folders: each reach is within one of them.
    """
    by_name: dict[tuple[str, bool], list[Place]] = {}
    for place in places:
        if place.matches(finding.where):
            by_name.setdefault((place.workload.name, place.measured), []).append(place)
    for alike in by_name.values():
        yield _of_workload(finding, alike)


def _of_workload(finding: Finding, places: Sequence[Place]) -> Reading:
    name = places[0].workload.name
    reaches, reasons = dict[str, Reach](), dict[str, str]()
    for knob in dict.fromkeys((finding.knob, *(lever for place in places for lever in levers(place)))):
        for series in (series for place in places for series in place.series(knob, finding.where)):
            try:
                found = _reach(finding, series)
            except UnknownError as reason:
                reasons.setdefault(knob, f"{label(knob)} cannot be judged: {reason}")
                continue
            if knob not in reaches or found.size > reaches[knob].size:
                reaches[knob] = found
    lost = "; ".join(reason for knob, reason in reasons.items() if knob not in reaches)
    if finding.knob not in reaches:
        return unknown(name, "", lost or one_value(finding.knob))
    mine = reaches.pop(finding.knob)
    if not reaches:
        return unknown(name, "", lost or f"no knob besides {label(finding.knob)} was run")
    others = sorted(reaches.values(), key=lambda r: -r.size)
    verdict = _verdict(finding, mine, others)
    if verdict == "holds" and lost:
        verdict = "cannot tell"
    cells = [cell for reach in (mine, *others) for cell in reach.cells]
    return Reading(
        name,
        "",
        verdict,
        f"{finding.metric} less by at most: {', '.join(map(str, (mine, *others)))}",
        lost or (TOO_CLOSE if verdict == "cannot tell" else ""),
        {f"{r.knob}.{name}": v for r in (mine, *others) for name, v in _figures(r).items()},
        tuple(dict.fromkeys(cell.label for cell in cells)),
        source_of(cells),
        all(r.effect.measured or r.effect.error_known for r in (mine, *others)),
        nodes_of(finding, Compared(name, *mine.cells)),
    )


def _reach(finding: Finding, series: Series) -> Reach:
    means = [(fmean(values(cell, finding.metric)), i) for i, cell in enumerate(series.cells.values())]
    cells = list(series.cells.values())
    dear, cheap = cells[max(means)[1]], cells[min(means)[1]]
    if dear is cheap:
        cheap = next(cell for cell in cells if cell is not dear)
    return Reach(series.knob, effect(dear, cheap, finding.metric, finding.work == "any"), (dear, cheap))


def _figures(reach: Reach) -> dict[str, float | None]:
    return {"change": reach.effect.change, "low": reach.effect.low, "high": reach.effect.high}


def _verdict(finding: Finding, mine: Reach, others: Sequence[Reach]) -> Verdict:
    own, edges = mine.edges(), [other.edges() for other in others]
    known = [edge for edge in edges if edge is not None]
    if own is None:
        return "cannot tell"
    if any(low > own[1] for low, _ in known) or -expm1(-own[1]) < finding.by_least:
        return "does not hold"
    least = own[0] if -expm1(-own[0]) >= finding.by_least else 0.0
    return "holds" if len(known) == len(edges) and all(high < least for _, high in known) else "cannot tell"

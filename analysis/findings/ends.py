"""A knob moved from one end to the other: by itself, and in one place against another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rejoule.analysis.findings.by_node import Compared
from rejoule.analysis.findings.effect import Effect, UnknownError, apart, effect, judged
from rejoule.analysis.findings.finding import Finding, Where
from rejoule.analysis.findings.lacking import one_value
from rejoule.analysis.findings.place import Place, Series, rest_of, value_of
from rejoule.analysis.findings.reading import Reading, compared, told, unknown
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.naming import label
from rejoule.analysis.summary.units import percent


@dataclass(frozen=True)
class Move:
    """A knob from one end to the other, all other knobs as they are."""

    series: Series
    a: Cell
    b: Cell

    @property
    def compared(self) -> Compared:
        return Compared(self.series.place.name, self.a, self.b)

    def effect(self, finding: Finding) -> Effect:
        return effect(self.a, self.b, finding.metric, finding.work == "any")


def moves(finding: Finding, places: Sequence[Place], where: Where) -> Iterator[Move | Reading]:
    """Every move that ``where`` asks for; a reading that cannot tell where a place has no such move."""
    for place in places:
        if not place.matches(where):
            continue
        found = place.series(finding.knob, where)
        pairs = [(series, *ends) for series in found for ends in series.ends(finding.start, finding.to)]
        if not pairs:
            yield unknown(place.name, "", _lost(finding, place, found, where))
            continue
        kept = [Move(*pair) for pair in pairs if _decodes(pair[1], where)]
        if not kept:
            yield unknown(place.name, "", "its outputs are a smaller share of its tokens")
            continue
        bound = [move for move in kept if _bound(move.b, where)]
        if not bound:
            yield unknown(place.name, "", _never(kept, where))
        yield from bound


def ends(finding: Finding, places: Sequence[Place]) -> Iterator[Reading]:
    """Whether the metric becomes less, more or stays the same."""
    for move in moves(finding, places, finding.where):
        if isinstance(move, Reading):
            yield move
            continue
        series = move.series
        try:
            found = move.effect(finding)
        except UnknownError as reason:
            yield unknown(series.place.name, series.held, str(reason))
            continue
        verdict = judged(found.middle, found.half, finding.expect, finding.by_least, finding.by_most)
        yield told(finding, series.held, verdict, found, move.compared)


def interaction(finding: Finding, places: Sequence[Place]) -> Iterator[Reading]:
    """Whether the knob does more in ``where`` than in ``than``: workloads, or other knobs, that are named there."""
    assert finding.than is not None
    firsts = list(moves(finding, places, finding.where))
    seconds = list(moves(finding, places, finding.than))
    lost = [found for found in (*firsts, *seconds) if isinstance(found, Reading)]
    there = [found for found in firsts if isinstance(found, Move)]
    others = [found for found in seconds if isinstance(found, Move)]
    pairs = [(one, other) for one in there for other in others if _beside(finding, one, other)]
    yield from dict.fromkeys(lost)
    if not pairs and not lost and (there or others):
        place = (there or others)[0].series.place
        yield unknown(place.name, "", "nothing that is alike but for what is compared was run beside it")
    for one, other in pairs:
        here = one.series.place.name
        where = _place_words(one, other)
        try:
            more, less = one.effect(finding), other.effect(finding)
        except UnknownError as reason:
            yield unknown(here, where, str(reason))
            continue
        middle, half = apart(more, less)
        yield compared(finding, where, more, less, middle, half, (one.compared, other.compared))


def _beside(finding: Finding, one: Move, other: Move) -> bool:
    """Whether two moves differ in what the finding names, and in nothing else.

    The knobs at both ends are the same, and so are those that neither side names.
    """
    assert finding.than is not None
    named = {*finding.where.knobs, *finding.than.knobs}
    here, there = one.series.place, other.series.place
    if here.folder != there.folder or (one.a, one.b) == (other.a, other.b):
        return False
    # Where no workloads are named, it is knobs that are compared, of one workload at a time.
    if here is not there if not _workloads(finding) else here is there and not named:
        return False
    free = (finding.knob, *named)
    return all(rest_of(x.configuration, free) == rest_of(y.configuration, free) for x, y in _sides(one, other)) and (
        _value(one.a, finding.knob), _value(one.b, finding.knob),
    ) == (_value(other.a, finding.knob), _value(other.b, finding.knob))  # fmt: skip


def _workloads(finding: Finding) -> bool:
    """Whether a finding holds workloads against each other."""
    assert finding.than is not None
    return any((w.graph, w.trace, w.shape) != ([], [], None) for w in (finding.where, finding.than))


def _sides(one: Move, other: Move) -> tuple[tuple[Cell, Cell], ...]:
    return ((one.a, other.a), (one.b, other.b))


def _value(cell: Cell, knob: str) -> Any:
    return value_of(cell.configuration, knob)


def _place_words(one: Move, other: Move) -> str:
    return one.series.held if one.series.held == other.series.held else f"{one.series.held} against {other.series.held}"


def _lost(finding: Finding, place: Place, found: Sequence[Series], where: Where) -> str:
    """Why no configurations are to be compared."""
    if found:
        return f"{label(finding.knob)} was not run at both ends"
    tried = {_value(cell, finding.knob) for cell in place.cells}
    if len(tried) < 2:
        return one_value(finding.knob)
    for name, wanted in where.knobs.items():
        if wanted in ("least", "most") and len({_value(cell, name) for cell in place.cells}) < 2:
            return one_value(name)
    if where.knobs:
        held = ", ".join(f"{name}={value}" for name, value in where.knobs.items())
        return f"{label(finding.knob)} was not run at several values with {held}"
    return f"no two configurations differ in {label(finding.knob)} alone"


def _bound(cell: Cell, where: Where) -> bool:
    """Whether the cap held the clock down for as long as is asked for."""
    if where.bound_least is None and where.bound_most is None:
        return True
    share = cell.bound_fraction
    least, most = where.bound_least or 0.0, 1.0 if where.bound_most is None else where.bound_most
    return share is not None and least <= share <= most


def _never(kept: Sequence[Move], where: Where) -> str:
    shares = [share for move in kept if (share := move.b.bound_fraction) is not None]
    if not shares:
        return "whether the cap held the clock down was not measured"
    caps = sorted({move.b.configuration.power_cap_w or 0.0 for move in kept})
    held = f"held the clock down for {percent(min(shares))} to {percent(max(shares))} of the busy time"
    if not any(shares):
        held = "never bound"
    return f"caps of {', '.join(f'{cap:g}' for cap in caps)} W {held}"


def _decodes(cell: Cell, where: Where) -> bool:
    if where.decoding is None:
        return True
    calls = [call for s in cell.trials for call in s.run.calls]
    out = sum(call.output_tokens or 0 for call in calls)
    computed = sum((call.prompt_tokens or 0) - (call.cached_tokens or 0) for call in calls)
    return out + computed > 0 and out / (out + computed) >= where.decoding

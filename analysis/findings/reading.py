"""What one place says of a finding, and what all of them say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rejoule.analysis.findings.by_node import ByNode, Compared, by_node
from rejoule.analysis.findings.carriers import Carriers, carriers
from rejoule.analysis.findings.effect import Effect, Verdict, judged, ratio_interval
from rejoule.analysis.findings.finding import Finding
from rejoule.analysis.findings.lacking import one_value
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.naming import source_label
from rejoule.analysis.summary.units import change, interval


@dataclass(frozen=True, slots=True)
class Reading:
    """One comparison."""

    trace: str
    where: str
    """The other knobs, as far as they vary among the runs."""
    verdict: Verdict
    evidence: str
    """The numbers in words."""
    reason: str = ""
    """Why it cannot be told, where that is not in the numbers."""
    figures: Mapping[str, float | str | None] = field(default_factory=dict, hash=False)
    """The same numbers for machines."""
    cells: tuple[str, ...] = ()
    """The configurations compared."""
    source: str = ""
    """Where the joules came from."""
    error_known: bool = True
    """Of modelled figures: whether the model's error on such differences is known; true of measured ones."""
    by_node: tuple[ByNode, ...] = field(default=(), hash=False)
    """Of the configurations that decide it, what their nodes did."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finding with what these runs say of it."""

    finding: Finding
    verdict: Verdict
    reason: str
    readings: tuple[Reading, ...]
    by_workload: Mapping[str, Verdict]
    basis: str
    """``measured``, ``modelled``, or both; whether the model's error is known."""
    carried: tuple[Carriers, ...] = ()
    """The nodes that carry it, by workload, in the comparisons that say what the workload's verdict says; where it
    cannot be told, none does."""


ERROR_UNKNOWN: Final = "modelled, its error on such differences not known: what the model says, not a GPU"


def told(finding: Finding, where: str, verdict: Verdict, found: Effect, compared: Compared) -> Reading:
    """Of a change between two configurations."""
    metric, cells = finding.metric, (compared.a, compared.b)
    words = f"{metric} {change(found.change)}{_width(found)}, {found.a} → {found.b}"
    figures = {"change": found.change, "low": found.low, "high": found.high, "a": found.value_a, "b": found.value_b,
               "unit": found.unit, "trials": found.trials}  # fmt: skip
    reason = "" if verdict != "cannot tell" else why(found)
    return Reading(
        compared.trace, where, verdict, words, reason, figures, (found.a, found.b), source_of(cells),
        found.measured or found.error_known, nodes_of(finding, compared),
    )  # fmt: skip


def compared(
    finding: Finding, where: str, more: Effect, less: Effect, middle: float, half: float | None,
    sides: tuple[Compared, Compared],
) -> Reading:  # fmt: skip
    """Of one change against another."""
    verdict = judged(middle, half, finding.expect, finding.by_least, finding.by_most)
    if verdict == "holds" and finding.also:
        verdict = judged(less.middle, less.half, finding.expect, finding.by_least, None)
    value, low, high = ratio_interval(middle, half)
    words = f"{finding.metric} {change(more.change)}{_width(more)} against {change(less.change)}{_width(less)}"
    figures = {
        "change": more.change,
        "low": more.low,
        "high": more.high,
        "other_change": less.change,
        "other_low": less.low,
        "other_high": less.high,
        "ratio": value + 1.0,
        "ratio_low": None if low is None else low + 1.0,
        "ratio_high": None if high is None else high + 1.0,
    }
    reason = "" if verdict != "cannot tell" else next(filter(None, (why(e) for e in (more, less))), TOO_CLOSE)
    traces = dict.fromkeys(side.trace for side in sides)
    return Reading(
        " against ".join(traces), where, verdict, words, reason, figures, (more.a, more.b, less.a, less.b),
        source_of(cell for side in sides for cell in (side.a, side.b)),
        all(e.measured or e.error_known for e in (more, less)), nodes_of(finding, *sides),
    )  # fmt: skip


def nodes_of(finding: Finding, *compared: Compared) -> tuple[ByNode, ...]:
    """What the nodes of these did, by the finding's metric."""
    return tuple(by_node(each, finding.metric, finding.work == "any") for each in compared)


TOO_CLOSE: Final = "the intervals leave it open"


def why(found: Effect) -> str:
    """Why an effect decides nothing."""
    if found.half is None:
        return "one trial shows no spread"
    return TOO_CLOSE


def unknown(trace: str, where: str, reason: str) -> Reading:
    return Reading(trace, where, "cannot tell", "", reason)


def source_of(cells: Iterable[Cell]) -> str:
    return source_label(s.run for cell in cells for s in cell.trials)


def answered(finding: Finding, readings: Sequence[Reading], lacking: str) -> Answer:
    """All readings together: a claim holds where every reading that can tell says so."""
    if not readings:
        return Answer(finding, "cannot tell", lacking, (), {}, "")
    readings = [_undecided(r) if r.verdict == "cannot tell" else r for r in readings]
    traces = list(dict.fromkeys(reading.trace for reading in readings))
    by = {trace: together([r.verdict for r in readings if r.trace == trace]) for trace in traces}
    verdict = together(list(by.values()))
    decided = [r for r in readings if r.verdict != "cannot tell"]
    # What one workload says several times, against several others, is one comparison of its nodes.
    nodes = dict.fromkeys(each for r in readings if r.verdict == by[r.trace] for each in r.by_node)
    return Answer(
        finding, verdict, _reason(finding, readings, decided), tuple(readings), by, _basis(readings), carriers(nodes)
    )


def _undecided(reading: Reading) -> Reading:
    return replace(reading, by_node=tuple(each.undecided() for each in reading.by_node))


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of several comparisons: one that says no is enough, and so is one that can tell at all."""
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if "holds" in verdicts else "cannot tell"


def _reason(finding: Finding, readings: Sequence[Reading], decided: Sequence[Reading]) -> str:
    reasons = list(dict.fromkeys(r.reason for r in readings if r.reason))
    # Where one place ran the knob, that another did not is no news.
    why = "; ".join([reason for reason in reasons if reason != one_value(finding.knob)] or reasons)
    if not decided:
        return why
    held = sum(r.verdict == "holds" for r in decided)
    words = f"holds in {held} of {len(decided)} comparisons"
    left = len(readings) - len(decided)
    return f"{words}, {left} cannot tell ({why})" if left else words


def _basis(readings: Sequence[Reading]) -> str:
    # What decided nothing says nothing of what the verdict rests on.
    used = [r for r in readings if r.verdict != "cannot tell"] or list(readings)
    kinds = list(dict.fromkeys(_kind(r) for r in used if r.source))
    return " and ".join(kinds)


def _kind(reading: Reading) -> str:
    if not reading.source.startswith("modelled"):
        return reading.source
    return f"{reading.source}, error {'known' if reading.error_known else 'not known'}"


def _width(found: Effect) -> str:
    if found.low is None or found.high is None or found.low == found.high:
        return ""
    return f" ({interval(found.low, found.high)})"

"""Where along a knob a metric is best: beside the number of sessions, and by two metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log1p
from typing import Any

from rejoule.analysis.findings.along import along
from rejoule.analysis.findings.by_node import ByNode, Compared
from rejoule.analysis.findings.effect import Effect, UnknownError, Verdict, effect
from rejoule.analysis.findings.finding import Expect, Finding
from rejoule.analysis.findings.lacking import one_value
from rejoule.analysis.findings.place import Place, Series, sessions
from rejoule.analysis.findings.reading import TOO_CLOSE, Reading, nodes_of, source_of
from rejoule.analysis.summary.naming import label


@dataclass(frozen=True)
class Best:
    """The values of a knob that are as good as the best one, to within the margin."""

    maybe: tuple[Any, ...]
    """Those of which it cannot be excluded, the best one with them."""
    surely: tuple[Any, ...]
    top: Any
    """The best one."""
    last: Any
    """The worst one."""
    known: bool
    """Whether the model's error on these differences is known; true of measured ones."""

    @property
    def shown(self) -> str:
        return " or ".join("default" if value is None else f"{value}" for value in self.maybe)


def optimum(finding: Finding, places: Sequence[Place]) -> Iterator[Reading]:
    """Whether the least value that is as good as the best lies where it should, in multiples of the sessions."""
    yield from along(finding, places, _by_sessions)


def disagreement(finding: Finding, places: Sequence[Place]) -> Iterator[Reading]:
    """Whether two metrics find different values best."""
    yield from along(finding, places, _by_two)


def best(finding: Finding, series: Series, metric: str, better: Expect) -> Best:
    """Raises UnknownError where configurations cannot be compared."""
    cells = {value: cell for value, cell in series.cells.items() if value is not None}
    if len(cells) < 2:
        raise UnknownError(one_value(finding.knob))
    first = next(iter(cells.values()))
    any_work = finding.work == "any"
    against = {value: effect(first, cell, metric, any_work) for value, cell in cells.items() if cell is not first}
    sign = 1.0 if better == "less" else -1.0
    ranked = {next(iter(cells)): 0.0} | {value: sign * found.middle for value, found in against.items()}
    top = min(ranked, key=lambda value: ranked[value])
    margin = log1p(finding.by_least)
    maybe, surely, known = list[Any](), list[Any](), True
    for value, cell in cells.items():
        if value == top:
            maybe.append(value)
            surely.append(value)
            continue
        found: Effect = effect(cells[top], cell, metric, any_work)
        known &= found.measured or found.error_known
        worse, half = sign * found.middle, found.half
        if half is None or worse - half <= margin:
            maybe.append(value)
        if half is not None and worse + half <= margin:
            surely.append(value)
    return Best(tuple(maybe), tuple(surely), top, max(ranked, key=lambda value: ranked[value]), known)


def _by_sessions(finding: Finding, series: Series) -> Reading:
    assert finding.sessions is not None
    there = {value: cell for value, cell in series.cells.items() if value is not None}
    found = best(finding, series, finding.metric, finding.expect)
    counts = {sessions(series.place, cell) for cell in there.values()}
    # Without users it depends on the batch how many are under way: at the largest all that came are.
    count = max((n for n in counts if n is not None), default=None)
    if count is None:
        raise UnknownError("how many workflows are under way at once is not known")
    low, high = (count * edge for edge in finding.sessions)
    least, surely, most = min(found.maybe), min(found.surely), max(there)
    inside = [low <= value <= high for value in (least, surely)]
    verdict: Verdict = "holds" if all(inside) else "cannot tell"
    reason = "" if all(inside) else TOO_CLOSE
    if not any(inside) and not least < low <= high < surely:
        verdict, reason = "does not hold", ""
    if surely == most and surely < high:
        # More may be better still: nothing says that the best one was run.
        verdict, reason = (
            "cannot tell",
            f"the largest {label(finding.knob)} run, {most}, is the best, and more was not run",
        )
    words = (
        f"{finding.metric} is best from {label(finding.knob)} {_span(least, surely)} on, "
        f"{_times(least, surely, count)} the {count} workflows under way at once"
    )
    figures = {"least": least, "surely": surely, "sessions": count, "largest_run": most}
    cells = list(there.values())
    return Reading(
        series.place.name, series.held, verdict, words, reason, figures, tuple(c.label for c in cells),
        source_of(cells), found.known, _moved(finding, series, found.last, found.top),
    )  # fmt: skip


def _by_two(finding: Finding, series: Series) -> Reading:
    assert finding.other_metric is not None
    one = best(finding, series, finding.metric, finding.expect)
    other = best(finding, series, finding.other_metric, finding.other_expect)
    verdict: Verdict = "cannot tell"
    if not set(one.maybe) & set(other.maybe):
        verdict = "holds"
    elif set(one.surely) & set(other.surely):
        verdict = "does not hold"
    words = f"by {finding.metric} {label(finding.knob)} {one.shown} is best, by {finding.other_metric} {other.shown}"
    figures = {"best": one.shown, "other_best": other.shown}
    cells = list(series.cells.values())
    return Reading(
        series.place.name, series.held, verdict, words, TOO_CLOSE if verdict == "cannot tell" else "", figures,
        tuple(c.label for c in cells), source_of(cells), one.known and other.known,
        _moved(finding, series, one.top, other.top),
    )  # fmt: skip


def _moved(finding: Finding, series: Series, start: Any, to: Any) -> tuple[ByNode, ...]:
    """The nodes from one value to another; none where they are one."""
    if start == to:
        return ()
    return nodes_of(finding, Compared(series.place.name, series.cells[start], series.cells[to]))


def _span(least: Any, surely: Any) -> str:
    return f"{least}" if least == surely else f"{least} to {surely}"


def _times(least: float, surely: float, count: int) -> str:
    low, high = f"{least / count:.2g}", f"{surely / count:.2g}"
    return f"{low} ×" if low == high else f"{low} to {high} ×"

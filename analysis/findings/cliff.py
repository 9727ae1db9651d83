"""Whether a metric falls off where the KV cache is full, and only there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean

from rejoule.analysis.findings.along import along
from rejoule.analysis.findings.by_node import Compared
from rejoule.analysis.findings.effect import UnknownError, Verdict, values
from rejoule.analysis.findings.finding import Finding
from rejoule.analysis.findings.kv import kv_pressure
from rejoule.analysis.findings.line import LEAST_POINTS
from rejoule.analysis.findings.place import Place, Series
from rejoule.analysis.findings.reading import TOO_CLOSE, Reading, nodes_of, source_of
from rejoule.analysis.statistics import mean
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.naming import label
from rejoule.analysis.summary.units import percent
from rejoule.traces.modelled import is_modelled

FULL = 1.0


def cliff(finding: Finding, places: Sequence[Place]) -> Iterator[Reading]:
    """A reading for each setting of the other knobs: the steepest fall between two neighbouring values."""
    yield from along(finding, places, _of_series)


def _of_series(finding: Finding, series: Series) -> Reading:
    cells = list(series.cells.values())
    if len(cells) < LEAST_POINTS:
        raise UnknownError(
            f"{len(cells)} values of {label(finding.knob)} were run, and a cliff takes {LEAST_POINTS} to show itself"
        )
    full = [_pressure(cell) for cell in cells]
    if finding.expect == "more":
        # The fall comes where the knob is small, such as the blocks of the cache.
        cells, full = cells[::-1], full[::-1]
    if max(full) < FULL:
        raise UnknownError(f"the KV cache never filled: workflows under way held {percent(max(full))} of it at most")
    if min(full) >= FULL:
        raise UnknownError(
            f"the KV cache was full everywhere: workflows under way held {percent(min(full))} of it at least"
        )
    found = [values(cell, finding.metric) for cell in cells]
    means = [fmean(trials) for trials in found]
    if min(means) < 0.0 or max(means) == 0.0:
        raise UnknownError(f"{finding.metric} is 0 in all of these runs")
    falls = [1.0 - b / a if a > 0.0 else 0.0 for a, b in pairwise(means)]
    at = max(range(len(falls)), key=lambda i: falls[i])
    # Full at the far side of the fall; what falls before that has another cause.
    early = max((fall for fall, filled in zip(falls, full[1:], strict=True) if filled < FULL), default=0.0)
    late = max(fall for fall, filled in zip(falls, full[1:], strict=True) if filled >= FULL)
    noise = _noise(cells, found)
    verdict: Verdict = "cannot tell"
    if noise is not None:
        if late - noise >= finding.by_least and early + noise < finding.by_least:
            verdict = "holds"
        elif late + noise < finding.by_least or early - noise >= finding.by_least:
            verdict = "does not hold"
    reason = "" if verdict != "cannot tell" else "one trial shows no spread" if noise is None else TOO_CLOSE
    if verdict == "does not hold" and early >= finding.by_least and series.place.shape == "fan-out":
        # Of branches beside each other only the longest is counted: the cache may have been full already.
        verdict, reason = (
            "cannot tell",
            "what branches beside each other hold is not known: the cache may be full sooner",
        )
    held = f"{percent(full[at])} → {percent(full[at + 1])}"
    words = (
        f"{finding.metric} {percent(means[at])} → {percent(means[at + 1])} from {cells[at].label} to "
        f"{cells[at + 1].label}, where workflows under way hold {held} of the KV cache"
    )
    figures = {"fall": falls[at], "fall_before_full": early, "fall_when_full": late, "noise": noise,
               "kv_before": full[at], "kv_after": full[at + 1], "from": means[at], "to": means[at + 1]}  # fmt: skip
    measured = not any(is_modelled(s.run) for cell in cells for s in cell.trials)
    return Reading(
        series.place.name, series.held, verdict, words, reason, figures, (cells[at].label, cells[at + 1].label),
        source_of(cells), measured, nodes_of(finding, Compared(series.place.name, cells[at], cells[at + 1])),
    )  # fmt: skip


def _pressure(cell: Cell) -> float:
    known = [share for share in (kv_pressure(s.run) for s in cell.trials) if share is not None]
    if not known:
        raise UnknownError("how much the KV cache holds is not known of this engine")
    return max(known)


def _noise(cells: Sequence[Cell], found: Sequence[Sequence[float]]) -> float | None:
    """By how much a fall may be off, relative: both ends' intervals; nothing where trials repeat to the last digit."""
    if all(s.run.configuration.engine == "sim" for cell in cells for s in cell.trials):
        return 0.0
    halves = []
    for trials in found:
        spread = mean(trials)
        if spread.interval is None and len(trials) < 2:
            return None
        width = 0.0 if spread.interval is None else (spread.interval.high - spread.interval.low) / 2.0
        halves.append(width / spread.value if spread.value > 0.0 else 0.0)
    return 2.0 * max(halves)

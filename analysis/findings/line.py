"""Whether a metric grows along a knob as a straight line does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, linear_regression

from rejoule.analysis.comparison.allowance import model_error
from rejoule.analysis.findings.along import along
from rejoule.analysis.findings.by_node import Compared
from rejoule.analysis.findings.effect import UnknownError, Verdict, values
from rejoule.analysis.findings.finding import Finding
from rejoule.analysis.findings.metrics import metric_of
from rejoule.analysis.findings.place import Place, Series
from rejoule.analysis.findings.reading import TOO_CLOSE, Reading, nodes_of, source_of
from rejoule.analysis.statistics import mean
from rejoule.analysis.summary.naming import label
from rejoule.analysis.summary.units import amount, percent
from rejoule.traces.modelled import is_modelled

LEAST_POINTS = 3


def linear(finding: Finding, places: Sequence[Place]) -> Iterator[Reading]:
    """A reading for each setting of the other knobs: how far the points lie from the line of least squares."""
    yield from along(finding, places, _of_series)


def _of_series(finding: Finding, series: Series) -> Reading:
    numbers = {v: cell for v, cell in series.cells.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if len(numbers) < LEAST_POINTS:
        raise UnknownError(
            f"{len(numbers)} values of {label(finding.knob)} were run, and a line takes {LEAST_POINTS} to show itself"
        )
    known = {float(v): values(cell, finding.metric) for v, cell in numbers.items()}
    xs, ys = list(known), [fmean(trials) for trials in known.values()]
    if min(ys) <= 0.0:
        raise UnknownError(f"{finding.metric} is 0 in some of these runs")
    slope, start = linear_regression(xs, ys)
    off = max(
        abs(y / (start + slope * x) - 1.0) if start + slope * x > 0.0 else 1.0 for x, y in zip(xs, ys, strict=True)
    )
    cells = list(numbers.values())
    noise, error_known = _noise(finding, series, list(known.values()))
    measured = not any(is_modelled(s.run) for cell in cells for s in cell.trials)
    unit = metric_of(finding.metric)[0].unit
    verdict: Verdict = "cannot tell"
    if noise is not None:
        if slope <= 0.0 or off - noise > finding.tolerance:
            verdict = "does not hold"
        elif off + noise <= finding.tolerance:
            verdict = "holds"
    reason = "" if verdict != "cannot tell" else "one trial shows no spread" if noise is None else TOO_CLOSE
    span = f"{label(finding.knob)} {xs[0]:g} to {xs[-1]:g}"
    grown = f"{amount(ys[0], unit)} to {amount(ys[-1], unit)}"
    words = f"{finding.metric} {grown} over {span}: at most {percent(off)} off a line"
    figures = {"slope": slope, "intercept": start, "off": off, "noise": noise, "points": len(xs), "unit": unit}
    return Reading(
        series.place.name, series.held, verdict, words, reason, figures, tuple(c.label for c in cells),
        source_of(cells), measured or error_known, nodes_of(finding, Compared(series.place.name, cells[0], cells[-1])),
    )  # fmt: skip


def _noise(finding: Finding, series: Series, found: Sequence[Sequence[float]]) -> tuple[float | None, bool]:
    """By how much points may be off, relative, and whether the model's part in that is known."""
    runs = [s.run for cell in series.cells.values() for s in cell.trials]
    if all(run.configuration.engine == "sim" for run in runs):
        _, scope = metric_of(finding.metric)
        off = model_error(runs)
        return off.of(scope, finding.metric) or 0.0, off.knows(scope, finding.metric)
    halves = []
    for trials in found:
        spread = mean(trials)
        if spread.interval is None:
            return None, False
        halves.append((spread.interval.high - spread.interval.low) / 2.0 / spread.value)
    return max(halves), False

"""What a metric does between two configurations, and how sure that is: as ``rejoule diff`` judges it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import expm1, log, log1p, sqrt
from typing import Literal

from rejoule.analysis.comparison.allowance import allowance
from rejoule.analysis.comparison.change import ratios
from rejoule.analysis.findings.finding import Expect
from rejoule.analysis.findings.metrics import metric_of
from rejoule.analysis.pairing import pair
from rejoule.analysis.parts import Sides
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.summary import Summary
from rejoule.traces.errors import RejouleError
from rejoule.traces.modelled import is_modelled

Verdict = Literal["holds", "does not hold", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Effect:
    """From configuration A to B, in one metric of one trace."""

    a: str
    b: str
    value_a: float
    value_b: float
    unit: str
    change: float
    """(B − A) / A, geometric mean over pairs of trials."""
    low: float | None
    """95 % interval of ``change``, the model's known error allowed for; ``None`` where nothing is known of it."""
    high: float | None
    trials: int
    measured: bool
    error_known: bool
    """Of a modelled one: whether the model's error on such differences is known."""

    @property
    def middle(self) -> float:
        """As a logarithm."""
        return log1p(self.change)

    @property
    def half(self) -> float | None:
        """Half of the interval, as a logarithm; 0 where the model's word is all there is."""
        if self.low is None or self.high is None:
            return None
        return (log1p(self.high) - log1p(self.low)) / 2.0


class UnknownError(Exception):
    """Why two configurations cannot be compared, in words."""


def paired(a: Cell, b: Cell, any_work: bool) -> Sides:
    """Their trials, side by side. Raises UnknownError where they did not do the same work."""
    try:
        pairs = pair([s.run for s in a.trials], [s.run for s in b.trials], allow_different_work=any_work)
    except RejouleError as error:
        raise UnknownError(error.what) from None
    by_run = {id(s.run): s for cell in (a, b) for s in cell.trials}
    return [(by_run[id(p.a)], by_run[id(p.b)]) for p in pairs]


def effect(a: Cell, b: Cell, metric: str, any_work: bool) -> Effect:
    """Raises UnknownError where the runs do not allow the comparison."""
    figure, scope = metric_of(metric)
    sides = paired(a, b, any_work)
    if not any_work:
        for cell in (a, b):
            if not cell.complete:
                raise UnknownError(f"work was lost with {cell.label}")
    if figure.unit in ("J", "W"):
        _usable(s for both in sides for s in both)
    found = [(x, y) for s, t in sides if (x := figure.value(s)) is not None and (y := figure.value(t)) is not None]
    if not found:
        raise UnknownError(f"{metric} is not known in these runs")
    xs, ys = [x for x, _ in found], [y for _, y in found]
    if min(*xs, *ys) <= 0.0:
        raise UnknownError(f"{metric} is 0 in some of these runs")
    measured = not any(is_modelled(s.run) for both in sides for s in both)
    simulated = all(s.run.configuration.engine == "sim" for both in sides for s in both)
    off = allowance([s.run for s, _ in sides], [t.run for _, t in sides])
    off_by = off.of(scope, metric)
    exact = simulated and len(set(xs)) == len(set(ys)) == 1
    changed = ratios(xs, ys, off_by or 0.0, exact)
    low, high = (None, None) if changed.interval is None else (changed.interval.low, changed.interval.high)
    if exact and (off_by is None or xs == ys):
        # Equal to the last digit is equal, whatever the model is off by; else its word is all there is.
        low = high = changed.value
    return Effect(
        a.label,
        b.label,
        sum(xs) / len(xs),
        sum(ys) / len(ys),
        figure.unit,
        changed.value,
        low,
        high,
        len(found),
        measured,
        off.knows(scope, metric),
    )


def values(cell: Cell, metric: str) -> tuple[float, ...]:
    """A metric of each trial. Raises UnknownError where it is not known, or should not be used."""
    figure, _ = metric_of(metric)
    if figure.unit in ("J", "W"):
        _usable(cell.trials)
    found = [value for value in map(figure.value, cell.trials) if value is not None]
    if not found:
        raise UnknownError(f"{metric} is not known with {cell.label}")
    return tuple(found)


def judged(middle: float, half: float | None, expect: Expect, least: float, most: float | None) -> Verdict:
    """Whether a change is what was claimed: its whole interval, none of it, or neither.

    ``middle`` and ``half`` are of its logarithm; ``least`` and ``most`` are relative changes.
    """
    if half is None:
        return "cannot tell"
    low, high = middle - half, middle + half
    down, up = log(1.0 - least) if least < 1.0 else float("-inf"), log1p(least)
    if expect == "same":
        if down <= low and high <= up:
            return "holds"
        return "does not hold" if high < down or low > up else "cannot tell"
    if expect == "more":
        low, high, down = -high, -low, -up
    deepest = float("-inf")
    if most is not None:
        deepest = log(max(1e-12, 1.0 - most)) if expect == "less" else -log1p(most)
    if deepest <= low and high < down:
        return "holds"
    return "does not hold" if low >= down or high < deepest else "cannot tell"


def apart(more: Effect, less: Effect) -> tuple[float, float | None]:
    """The logarithm of the first change by the second, and half of its interval, both sides' in quadrature."""
    halves = (more.half, less.half)
    if halves[0] is None or halves[1] is None:
        return more.middle - less.middle, None
    return more.middle - less.middle, sqrt(halves[0] ** 2 + halves[1] ** 2)


def ratio_interval(middle: float, half: float | None) -> tuple[float, float | None, float | None]:
    """A change in logarithms as a relative one with its interval."""
    if half is None:
        return expm1(middle), None, None
    return expm1(middle), expm1(middle - half), expm1(middle + half)


def _usable(trials: Iterable[Summary]) -> None:
    reason = next((r for s in trials for r in s.evidence.rejected), None)
    if reason is not None:
        raise UnknownError(f"these joules should not be used: {reason}")

"""Whether a diff keeps what was asked of it: ``joules > 3%`` and its like, for a line in somebody's CI."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal

from rejoule.analysis.comparison.row import Row, Scope
from rejoule.analysis.diff import Diff
from rejoule.analysis.parts import SPLITS
from rejoule.analysis.statistics import Interval
from rejoule.analysis.summary.units import change, signed
from rejoule.analysis.summary.words import metric_named
from rejoule.traces.errors import RejouleError

Outcome = Literal["fails", "passes", "cannot tell"]

REMEDY: Final = (
    "write FIGURE > NUMBER% or FIGURE < NUMBER%, as in 'joules > 3%', 'workflow.p99 > 2 s', 'node:plan > 5%'"
)
_FORM: Final = re.compile(
    r"\s*(?P<figure>.+?)\s*(?P<sign>[<>])\s*(?P<bound>[-+−]?[0-9.]+(?:e[-+]?\d+)?)\s*(?P<unit>\S*)\s*"
)
_SCALES: Final[Mapping[str, tuple[str, float]]] = {
    "mJ": ("J", 1e-3), "kJ": ("J", 1e3), "MJ": ("J", 1e6), "ms": ("s", 1e-3), "kW": ("W", 1e3),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """What must not be: a figure that changed from A to B by more, or by less, than a bound."""

    text: str
    scope: Scope | None
    """``None`` for a figure of the whole run or of its workflows."""
    name: str
    """Of the row in the diff."""
    above: bool
    bound: float
    """Relative where ``unit`` is ``%``; else B − A in ``unit``."""
    unit: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one condition on one trace."""

    condition: str
    trace: str
    outcome: Outcome
    value: float | None
    """By how much B differs from A: relative, or in the condition's unit."""
    interval: Interval | None
    """95 %, of ``value``; ``None`` where none is known."""
    unit: str
    reason: str | None
    """Why it cannot be told, or what the outcome rests on."""

    def __str__(self) -> str:
        found = "not known" if self.value is None else _shown(self.value, self.unit)
        if self.interval is not None:
            found += (
                f", 95 % interval {_shown(self.interval.low, self.unit)} to {_shown(self.interval.high, self.unit)}"
            )
        why = "" if self.reason is None else f"; {self.reason}"
        return f"{self.outcome}: {self.condition}: {self.trace}: {found}{why}"


def conditions(texts: Sequence[str]) -> tuple[Condition, ...]:
    """Raises RejouleError for what is none."""
    return tuple(map(_condition, texts))


def _condition(text: str) -> Condition:
    found = _FORM.fullmatch(text)
    if found is None:
        raise RejouleError(f"'{text}' is no condition", REMEDY)
    try:
        bound = float(found["bound"].replace("−", "-"))
    except ValueError:
        bound = float("nan")
    if not isfinite(bound):
        raise RejouleError(f"'{text}' has no number to hold the figure against", REMEDY)
    scope, name, unit = _figure(text, found["figure"])
    given = found["unit"]
    if given == "%":
        return Condition(text, scope, name, found["sign"] == ">", bound / 100.0, "%")
    base, factor = _SCALES.get(given, (given, 1.0))
    if base != unit:
        wanted = f"% or {unit}" if unit else "%"
        raise RejouleError(f"'{text}': {name} has no unit '{given}'", f"give the bound in {wanted}")
    return Condition(text, scope, name, found["sign"] == ">", bound * factor, base)


def _figure(text: str, word: str) -> tuple[Scope | None, str, str]:
    scope, colon, name = word.partition(":")
    for split in SPLITS:
        if colon and scope == split:
            return split, name.strip(), "J"
    try:
        metric = metric_named(word)
    except RejouleError as error:
        raise RejouleError(f"'{text}': {error.what}", f"{error.remedy}, node:NAME, agent:NAME, phase:NAME") from None
    return None, metric.name, metric.unit


def judge(found: Diff, wanted: Sequence[Condition]) -> tuple[Judgement, ...]:
    """Every condition on every trace of a diff. Raises RejouleError for a figure that the diff has nowhere.

    A condition *fails* where all of the 95 % interval of the change lies beyond the bound, and *passes* where none
    of it does; in between it cannot be told. A change without spread, as simulated ones are, is held against the
    bound by itself where no error of the model is known.
    """
    return tuple(one for condition in wanted for one in _judged(found, condition))


def _judged(found: Diff, condition: Condition) -> Iterator[Judgement]:
    scopes = ("workload", "workflows") if condition.scope is None else (condition.scope,)
    rows = {row.trace: row for row in found.rows if row.scope in scopes and row.name == condition.name}
    if not rows:
        there = dict.fromkeys(row.name for row in found.rows if row.scope in scopes)
        raise RejouleError(
            f"'{condition.text}': neither side has {condition.name}",
            f"there are {', '.join(there)}" if there else "this diff has no joules by that; see its notes",
        )
    for trace in dict.fromkeys(row.trace for row in found.rows):
        if trace in rows:
            yield _of_row(condition, rows[trace])
        else:
            yield Judgement(condition.text, trace, "cannot tell", None, None, condition.unit, "it was not measured")


def _of_row(condition: Condition, row: Row) -> Judgement:
    relative = condition.unit == "%"
    value = row.change if relative else row.delta
    interval = _in_unit(row, relative)

    def judgement(outcome: Outcome, reason: str | None = None) -> Judgement:
        return Judgement(condition.text, row.trace, outcome, value, interval, condition.unit, reason)

    if value is None:
        return judgement("cannot tell", "a change from 0 has no percentage: give the bound in its unit")
    if row.withheld is not None:
        return judgement("cannot tell", row.withheld)
    if interval is None and not _exact(row):
        return judgement("cannot tell", "one trial shows no spread")
    rests = None
    if row.by_example and row.interval is not None:
        rests = "allowing for an example of another GPU's error: the model's own is not known"
    elif (interval is None or not row.error_known) and row.a != row.b and row.unit != "tokens":
        # Never held against measurements, which trials of a model know nothing of; counts of tokens need no interval.
        rests = "by the model alone, whose error is not known"
    low, high = (value, value) if interval is None else (interval.low, interval.high)
    if not condition.above:
        low, high = -high, -low
    bound = condition.bound if condition.above else -condition.bound
    if low > bound:
        return judgement("fails", rests)
    return (
        judgement("passes", rests) if high <= bound else judgement("cannot tell", "the bound lies within the interval")
    )


def _exact(row: Row) -> bool:
    """Whether a difference without an interval is known all the same: of equal trials, or of one measurement."""
    return row.deterministic or row.verdict != "cannot tell" or row.a == row.b


def _in_unit(row: Row, relative: bool) -> Interval | None:
    if relative:
        return row.interval
    if row.delta_interval is not None:
        return row.delta_interval
    return None if row.interval is None else Interval(row.interval.low * row.a, row.interval.high * row.a)


def _shown(value: float, unit: str) -> str:
    return change(value) if unit == "%" else signed(value, unit)

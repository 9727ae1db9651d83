"""One line of a comparison, and what may be said of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Literal

from rejoule.analysis.comparison.allowance import LEAD
from rejoule.analysis.comparison.change import MARGIN, differences, ratios
from rejoule.analysis.comparison.family import adjusted
from rejoule.analysis.statistics import CONFIDENCE, Interval

Scope = Literal["workload", "workflows", "node", "agent", "phase"]
Verdict = Literal["less", "more", "no difference", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure on both sides: means over the pairs, and the change with its interval."""

    scope: Scope
    trace: str
    name: str
    """The metric, node, agent or phase."""
    unit: str
    a: float
    b: float
    pairs: int
    change: float | None
    """(B − A) / A, as the geometric mean over pairs; ``None`` where a value is not positive."""
    interval: Interval | None
    """95 %, of ``change``, and of this row alone."""
    p: float | None
    """Of a change where there is none, adjusted for all claims of its table."""
    verdict: Verdict
    deterministic: bool = False
    """All trials of a side are equal, because they are simulated or count tokens: the difference has no spread."""
    p_same: float | None = None
    """Of a change of ``MARGIN`` or more where none is called, adjusted likewise."""
    delta_interval: Interval | None = None
    """95 %, of B − A in ``unit``, where ``change`` is not defined."""
    allowance: float | None = None
    """What ``interval``, ``p`` and ``p_same`` allow for that trials do not show, relative: see the notes."""
    spread: float | None = None
    """Standard deviation of the pairs' changes, as logarithms."""
    withheld: str | None = None
    """Why there is no verdict, though the figures are shown."""
    error_known: bool = True
    """Of modelled figures: whether the model's own error on such differences is known; true of measured ones."""
    by_example: bool = False
    """Whether ``allowance`` has an example of another GPU's error in its place."""

    @property
    def delta(self) -> float:
        return self.b - self.a

    @property
    def room(self) -> str:
        """What the interval of a modelled figure without spread is."""
        return "the model's known error" if self.error_known else "the error allowed for"


def judged(
    row: Row,
    a: Sequence[float],
    b: Sequence[float],
    allowance: float | None,
    simulated: bool,
    same: bool,
    withheld: str | None,
) -> Row:
    """``row`` with its figures, and with the verdict where no other row has a say in it."""
    row = replace(row, a=fsum(a) / len(a), b=fsum(b) / len(b), allowance=allowance, withheld=withheld)
    constant = len(set(a)) == len(set(b)) == 1
    exact = constant and (simulated or (row.unit == "tokens" and len(a) > 1))
    if exact:
        row = replace(row, a=a[0], b=b[0], deterministic=len(a) > 1)
    if all(v > 0.0 for v in (*a, *b)):
        found = ratios(a, b, allowance or 0.0, exact)
        row = replace(row, change=found.value, interval=found.interval, p=found.p, p_same=found.p_same)
        row = replace(row, spread=found.spread)
    elif a == b:
        row = replace(row, change=0.0)
    elif not exact:
        found = differences(a, b)
        row = replace(row, delta_interval=found.interval, p=found.p)
    if withheld is not None:
        return replace(row, interval=None, delta_interval=None, p=None, p_same=None)
    if a == b and (exact or same or row.unit == "tokens" or not any(a)):
        return replace(row, interval=None, p=None, p_same=None, verdict="no difference")
    return replace(row, verdict=_of_exact(row)) if exact else row


def _of_exact(row: Row) -> Verdict:
    """Of a difference that has no spread: by its interval where its error is known, else by itself."""
    if row.change is None:
        return "less" if row.b < row.a else "more"
    low, high = (row.change, row.change) if row.interval is None else (row.interval.low, row.interval.high)
    if low >= -MARGIN and high <= MARGIN:
        return "no difference"
    if low <= 0.0 <= high:
        return "cannot tell"
    return "less" if row.change < 0.0 else "more"


def corrected(rows: Sequence[Row]) -> Iterable[Row]:
    """The verdicts of one table's rows, all their claims together.

    Half of the error that a table may make is kept for its joules, which is what most diffs are made for.
    """
    tested = [row for row in rows if row.p is not None]
    others = max(1, sum(row.name != LEAD for row in tested))
    weights = [float(others) if row.name == LEAD else 1.0 for row in tested]
    claims = [[p for p in (row.p, row.p_same) if p is not None] for row in tested]
    found = {id(row): ps for row, ps in zip(tested, adjusted(claims, weights), strict=True)}
    for row in rows:
        if id(row) not in found:
            yield row
            continue
        p, *p_same = found[id(row)]
        same = p_same[0] if p_same else None
        verdict: Verdict = "cannot tell"
        if same is not None and same < 1.0 - CONFIDENCE:
            verdict = "no difference"
        elif p < 1.0 - CONFIDENCE:
            verdict = "less" if (row.delta if row.change is None else row.change) < 0.0 else "more"
        yield replace(row, p=p, p_same=same, verdict=verdict)

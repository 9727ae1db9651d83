"""Which nodes carry a comparison: what became of each node's joules, or of the time in its calls, and how sure that is.

One law for whatever a finding asks: a reading says which configurations decided it, and their nodes are judged as
``rejoule diff`` judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import fsum
from typing import Final, Literal

from rejoule.analysis.comparison.allowance import LEAD, allowance
from rejoule.analysis.comparison.row import Row, Verdict, corrected
from rejoule.analysis.findings.effect import UnknownError, paired
from rejoule.analysis.findings.metrics import metric_of
from rejoule.analysis.parts import Judge, Sides
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.lines import line
from rejoule.analysis.summary.summary import Summary
from rejoule.analysis.summary.trust import UNSEEN, withheld

Quantity = Literal["joules", "time in calls"]
UNITS: Final[dict[Quantity, str]] = {"joules": "J", "time in calls": "s"}
TIMES: Final = ("s", "/s", "/h", "×")
"""Units of metrics that are a matter of time; nodes of all others are told by their joules."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Two configurations of one workload."""

    trace: str
    a: Cell
    b: Cell


@dataclass(frozen=True, slots=True)
class NodeChange:
    """Of a node, of nodes that only their sum is known of, or of a line that no call owes."""

    node: str
    a: float
    """A workflow, in the unit of the comparison."""
    b: float
    change: float | None
    """(B − A) / A; ``None`` where a side has none of it."""
    low: float | None
    """95 % interval of ``change``; ``None`` where nothing is known of it, or the model's word is all there is."""
    high: float | None
    share: float | None
    """Of the whole change; ``None`` where that is not clear, or this is not."""
    of_all: float | None
    """The change, of all that A took."""
    verdict: Verdict
    carries: bool
    """Whether it surely changed as the whole did."""
    reason: str | None
    """Why it cannot be told, where that is not in the numbers."""

    @property
    def delta(self) -> float:
        return self.b - self.a


@dataclass(frozen=True, slots=True)
class ByNode:
    """The nodes of one comparison, the most changed first."""

    trace: str
    a: str
    b: str
    quantity: Quantity
    unit: str
    """Of joules, or of the seconds from when a call was due to its end: both a workflow."""
    delta: float | None
    """Of the whole, of which nodes are parts."""
    verdict: Verdict
    """Of the whole."""
    error_known: bool
    """Of modelled nodes: whether the model's error on such differences is known; true of measured ones."""
    nodes: tuple[NodeChange, ...]
    reason: str | None = None
    """Why there are no nodes."""
    decided: bool = True
    """Whether what is asked of the whole can be told."""

    def undecided(self) -> ByNode:
        """The same where it cannot: no node carries it, or has a share of it."""
        nodes = tuple(replace(node, share=None, carries=False) for node in self.nodes)
        return replace(self, nodes=nodes, decided=False)


def by_node(compared: Compared, metric: str, any_work: bool) -> ByNode:
    """Nodes by what the metric is a matter of; joules that are withheld leave a reason alone."""
    quantity: Quantity = "time in calls" if metric_of(metric)[0].unit in TIMES else "joules"
    a, b = compared.a, compared.b

    def told(whole: Row | None, rows: list[Row], reason: str | None) -> ByNode:
        delta = None if whole is None else whole.delta
        verdict: Verdict = "cannot tell" if whole is None else whole.verdict
        nodes = sorted((_node(row, whole) for row in rows), key=lambda node: -abs(node.delta))
        known = all(row.error_known for row in rows)
        return ByNode(
            compared.trace, a.label, b.label, quantity, UNITS[quantity], delta, verdict, known, tuple(nodes), reason
        )

    try:
        sides = paired(a, b, any_work)
    except UnknownError as why:
        return told(None, [], str(why))
    judge = Judge(compared.trace, sides, allowance([s.run for s, _ in sides], [t.run for _, t in sides]))
    if quantity == "joules":
        whole = _only(judge, LEAD, "J", lambda s: None if s.gpu_j is None else s.gpu_j / _workflows(s))
        return told(whole, list(judge.by("node", per=_workflows)), _lacking(whole, sides))
    whole = _only(judge, quantity, "s", lambda s: _in_calls(s, None))
    return told(whole, list(_timed(judge)), None)


def _node(row: Row, whole: Row | None) -> NodeChange:
    clear = whole is not None and whole.verdict in ("less", "more")
    sure = row.verdict in ("less", "more")
    share = row.delta / whole.delta if clear and sure and whole is not None and whole.delta else None
    low, high = (None, None) if row.interval is None else (row.interval.low, row.interval.high)
    carries = clear and sure and whole is not None and (row.delta < 0.0) == (whole.delta < 0.0)
    of_all = row.delta / whole.a if whole is not None and whole.a else None
    return NodeChange(row.name, row.a, row.b, row.change, low, high, share, of_all, row.verdict, carries, row.withheld)


def _only(judge: Judge, name: str, unit: str, value: Callable[[Summary], float | None]) -> Row | None:
    return next(iter(corrected(list(judge.row("workload", name, unit, value)))), None)


def _lacking(whole: Row | None, sides: Sides) -> str | None:
    if whole is None:
        return "the energy was not measured"
    poor = withheld(s.attribution for both in sides for s in both)
    return None if poor is None else f"joules by node {UNSEEN.partition(';')[0]}: {poor}"


def _timed(judge: Judge) -> Iterator[Row]:
    names = dict.fromkeys(call.node for both in judge.found for s in both for call in s.run.calls)

    def of(node: str) -> Callable[[Summary], float | None]:
        return lambda side: _in_calls(side, node)

    # The errors of models are not known of single nodes' time.
    rows = [row for name in names for row in judge.row("workload", line(name), "s", of(name))]
    yield from corrected(rows)


def _in_calls(side: Summary, node: str | None) -> float:
    return fsum(c.end_s - c.due_s for c in side.run.calls if node in (None, c.node)) / _workflows(side)


def _workflows(side: Summary) -> float:
    return float(max(1, len(side.run.workflows)))

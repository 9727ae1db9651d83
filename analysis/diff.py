"""What changed between two sets of runs, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Literal

from rejoule.analysis.attribution import Attribution, ordered
from rejoule.analysis.notes import attribution_notes, comparable, pair_notes
from rejoule.analysis.pairing import Pair
from rejoule.analysis.statistics import CONFIDENCE, Interval, holm, paired_ratio
from rejoule.analysis.summary.naming import describe, source_label, varying
from rejoule.analysis.summary.summary import METRICS, Summary, trials
from rejoule.analysis.summary.trust import withheld
from rejoule.analysis.summary.units import change
from rejoule.traces.run import Run
from rejoule.traces.tabular import Columns, Tabular, columns_of

Scope = Literal["workload", "node", "phase"]
Verdict = Literal["less", "more", "no difference", "cannot tell"]

MARGIN = 0.02
"""Changes within ±2 % are no difference."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure on both sides: means over the pairs, and the change with its interval."""

    scope: Scope
    trace: str
    name: str
    """The metric, node or phase."""
    unit: str
    a: float
    b: float
    pairs: int
    change: float | None
    """(B − A) / A, as the geometric mean over pairs; ``None`` where it is not defined."""
    interval: Interval | None
    p: float | None
    """Adjusted for all rows of the diff that could differ (Holm)."""
    verdict: Verdict
    deterministic: bool = False
    """All trials of a side are equal because they are simulated: the difference is exact, and has no interval."""

    @property
    def delta(self) -> float:
        return self.b - self.a


@dataclass(frozen=True, slots=True)
class Diff(Tabular):
    """Two sides compared; as a table it has a row a figure."""

    a: str
    """What side A is called."""
    b: str
    source: str
    headlines: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]

    def columns(self) -> Columns:
        return columns_of(
            {
                "scope": row.scope,
                "trace": row.trace,
                "name": row.name,
                "unit": row.unit,
                "a": row.a,
                "b": row.b,
                "delta": row.delta,
                "change": row.change,
                "change_low": None if row.interval is None else row.interval.low,
                "change_high": None if row.interval is None else row.interval.high,
                "p": row.p,
                "pairs": row.pairs,
                "verdict": row.verdict,
                "source": self.source,
            }
            for row in self.rows
        )

    def of(self, scope: Scope) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.scope == scope)


def compare(pairs: Sequence[Pair], seed: int = 0, force: bool = False) -> Diff:
    """Compare paired runs by workload, node and phase; ``force`` shows the latter two where the fit is poor, too."""
    sides = {id(summary.run): summary for runs in _configurations(pairs) for summary in trials(runs)}
    by_trace: dict[str, list[tuple[Summary, Summary]]] = {}
    for pair in pairs:
        by_trace.setdefault(pair.a.trace, []).append((sides[id(pair.a)], sides[id(pair.b)]))
    name_a, name_b = _side_names(pairs)
    source = source_label([*(pair.a for pair in pairs), *(pair.b for pair in pairs)])
    rows = _corrected([row for trace, found in by_trace.items() for row in _rows(trace, found, seed, force)])
    return Diff(
        name_a,
        name_b,
        source,
        tuple(_headline(row, name_a, name_b, source) for row in rows if row.name == "GPU energy"),
        (*pair_notes(pairs), *attribution_notes([sides for found in by_trace.values() for sides in found], force)),
        rows,
    )


def _configurations(pairs: Sequence[Pair]) -> Iterable[Sequence[Run]]:
    """The trials of each side of each trace."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for pair in pairs:
        for side, run in (("A", pair.a), ("B", pair.b)):
            groups.setdefault((side, run.trace), []).append(run)
    return groups.values()


def _rows(trace: str, found: Sequence[tuple[Summary, Summary]], seed: int, force: bool) -> Iterable[Row]:
    for metric in METRICS:
        values = [(metric.value(a), metric.value(b)) for a, b in found]
        yield from _row("workload", trace, metric.name, metric.unit, values, found, seed)
    known = [(a.attribution, b.attribution) for a, b in found if comparable(a.attribution, b.attribution)]
    alike = [sides for sides in known if force or withheld(sides) is None]
    parts = [(_parts(a), _parts(b)) for a, b in alike]
    for scope in ("node", "phase"):
        for name in ordered(name for side in parts for part in side for name in part[scope]):
            # A side that was attributed and lacks the line spent nothing on it.
            values = [(a[scope].get(name, 0.0), b[scope].get(name, 0.0)) for a, b in parts if a[scope] and b[scope]]
            yield from _row(scope, trace, name, "J", values, found, seed)


def _parts(found: Attribution | None) -> dict[Scope, Mapping[str, float]]:
    """Joules by node and by phase, each with the lines that make them add up to the total."""
    if found is None:
        return {"node": {}, "phase": {}}
    rest = found.without_work()
    phase = found.by_phase()
    nodes = {name: energy.total_j for name, energy in found.by_node().items()}
    return {"node": nodes | rest, "phase": {"prefill": phase.prefill_j, "decode": phase.decode_j} | rest}


def _row(
    scope: Scope,
    trace: str,
    name: str,
    unit: str,
    values: Iterable[tuple[float | None, float | None]],
    found: Sequence[tuple[Summary, Summary]],
    seed: int,
) -> Iterable[Row]:
    known = [(a, b) for a, b in values if a is not None and b is not None]
    if not known:
        return
    a, b = [v for v, _ in known], [v for _, v in known]
    row = Row(scope, trace, name, unit, fsum(a) / len(a), fsum(b) / len(b), len(a), None, None, None, "cannot tell")
    exact = all(_deterministic(side) for sides in found for side in sides)
    if exact and len(a) > 1 and len(set(a)) == len(set(b)) == 1:
        a, b, row = a[:1], b[:1], replace(row, a=a[0], b=b[0], deterministic=True)
    if all(v > 0.0 for v in (*a, *b)):
        ratio = paired_ratio(a, b, seed)
        row = replace(row, change=ratio.change, interval=ratio.interval, p=ratio.p)
    elif a == b:
        row = replace(row, change=0.0)
    yield replace(row, verdict=_verdict(row, exact))


def _deterministic(side: Summary) -> bool:
    return side.run.configuration.engine == "sim"


def _verdict(row: Row, exact: bool) -> Verdict:
    if row.interval is not None and row.change is not None:
        if row.interval.within(MARGIN):
            return "no difference"
        significant = row.p is not None and row.p < 1.0 - CONFIDENCE
        if significant and not row.interval.low <= 0.0 <= row.interval.high:
            return "less" if row.change < 0.0 else "more"
        return "cannot tell"
    if row.a == row.b:
        return "no difference"
    if not exact:
        return "cannot tell"
    # One trial in virtual time repeats byte for byte: its difference is exact.
    if row.change is not None and abs(row.change) <= MARGIN:
        return "no difference"
    return "less" if row.b < row.a else "more"


def _corrected(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Adjust p over all rows, and take back verdicts that do not survive it.

    Whoever reads a diff looks for any row that changed, so the rows of all scopes are one family. Those that are equal
    on both sides by construction, such as tokens, could not differ and are no test.
    """
    tested = [(i, row.p) for i, row in enumerate(rows) if row.p is not None and row.p < 1.0]
    adjusted = dict(zip((i for i, _ in tested), holm([p for _, p in tested]), strict=True))
    corrected = []
    for i, row in enumerate(rows):
        if i in adjusted:
            row = replace(row, p=adjusted[i])
            row = replace(row, verdict=_verdict(row, exact=False))
        corrected.append(row)
    return tuple(corrected)


def _side_names(pairs: Sequence[Pair]) -> tuple[str, str]:
    """What tells the sides apart; ``A`` and ``B`` where the configurations do not."""
    a, b = pairs[0].a.configuration, pairs[0].b.configuration
    names = varying((a, b))
    return (describe(a, names), describe(b, names)) if names else ("A", "B")


def _headline(row: Row, name_a: str, name_b: str, source: str) -> str:
    evidence = "one trial" if row.pairs == 1 else f"{row.pairs} paired trials"
    if row.deterministic:
        evidence += ", deterministic: no interval"
    if row.interval is not None:
        evidence += f", 95 % interval {change(row.interval.low)} to {change(row.interval.high)}"
    match row.verdict:
        case "less" | "more" if row.change is not None:
            claim = f"{100 * abs(row.change):.0f} % {row.verdict} energy with {name_b} than with {name_a}"
        case "no difference":
            claim = f"as much energy with {name_b} as with {name_a}, to within {100 * MARGIN:.0f} %"
        case _:
            claim = f"cannot tell whether {name_b} or {name_a} takes less energy"
    return f"{row.trace}: {claim} ({source}; {evidence})"

"""What changed between two sets of runs, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rejoule.analysis.causes import Causes, causes
from rejoule.analysis.comparison.allowance import LEAD, allowance
from rejoule.analysis.comparison.change import MARGIN
from rejoule.analysis.comparison.row import Row, Scope, corrected
from rejoule.analysis.comparison.sight import Sight, sight
from rejoule.analysis.notes import attribution_notes, pair_notes, workflow_notes
from rejoule.analysis.pairing import LeftOut, Pair, Pairs, same_runs
from rejoule.analysis.parts import SPLITS, Judge, rejected
from rejoule.analysis.summary.naming import describe, source_label, varying
from rejoule.analysis.summary.summary import METRICS, Metric, trials
from rejoule.analysis.summary.units import change
from rejoule.analysis.summary.workflows import WORKFLOW_METRICS
from rejoule.traces.run import Run
from rejoule.traces.tabular import Columns, Tabular, columns_of


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
    sights: tuple[Sight, ...] = ()
    """What the trials of each trace can see of its joules, where they were measured."""
    left_out: tuple[LeftOut, ...] = ()
    """Runs without a counterpart."""
    causes: tuple[Causes, ...] = ()
    """Of each trace, why its joules differ; none where joules are not to be compared."""

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
                "delta_low": None if row.delta_interval is None else row.delta_interval.low,
                "delta_high": None if row.delta_interval is None else row.delta_interval.high,
                "p": row.p,
                "p_same": row.p_same,
                "allowance": row.allowance,
                "error_known": row.error_known,
                "withheld": row.withheld,
                "pairs": row.pairs,
                "verdict": row.verdict,
                "source": self.source,
            }
            for row in self.rows
        )

    def of(self, scope: Scope) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.scope == scope)


def compare(
    pairs: Pairs | Sequence[Pair], force: bool = False, allow_rejected: bool = False, in_turns: bool = True
) -> Diff:
    """Compare paired runs: whole, their workflows, by node and phase, and by agent where both sides name several.

    ``force`` shows all but the first where the fit is poor, too; ``allow_rejected`` judges joules that should not be
    used. ``in_turns`` is whether A and B took turns while they were measured.
    """
    left_out = pairs.left_out if isinstance(pairs, Pairs) else ()
    sides = {id(summary.run): summary for runs in _configurations(pairs) for summary in trials(runs)}
    by_trace: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_trace.setdefault(pair.a.trace, []).append(pair)
    rows, sights, why = list[Row](), list[Sight](), list[Causes]()
    off_by: list[str] = []
    for trace, mine in by_trace.items():
        found = [(sides[id(pair.a)], sides[id(pair.b)]) for pair in mine]
        off = allowance([p.a for p in mine], [p.b for p in mine])
        off_by += off.notes
        made = list(_rows(Judge(trace, found, off, allow_rejected), force))
        rows += made
        lead = next((row for row in made if row.name == LEAD and row.scope == "workload"), None)
        if lead is not None and lead.withheld is None and all(run.measured for p in mine for run in (p.a, p.b)):
            sights.append(sight(trace, LEAD, lead.pairs, lead.spread))
        if lead is not None and lead.withheld is None and not all(same_runs(p.a, p.b) for p in mine):
            used = [p for p, sides_of in zip(mine, found, strict=True) if allow_rejected or not rejected(sides_of)]
            split = causes(used)
            why += [] if split is None else [split]
    name_a, name_b = _side_names(pairs)
    source = source_label([*(pair.a for pair in pairs), *(pair.b for pair in pairs)])
    notes = (
        *pair_notes(pairs, left_out, allow_rejected, in_turns),
        *dict.fromkeys(off_by),
        *workflow_notes([(sides[id(pair.a)], sides[id(pair.b)]) for pair in pairs]),
        *attribution_notes([(sides[id(pair.a)], sides[id(pair.b)]) for pair in pairs], force),
    )
    headlines = tuple(_headline(row, name_a, name_b, source) for row in rows if row.name == LEAD)
    return Diff(name_a, name_b, source, headlines, notes, tuple(rows), tuple(sights), left_out, tuple(why))


def _configurations(pairs: Iterable[Pair]) -> Iterable[Sequence[Run]]:
    """The trials of each side of each trace."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for pair in pairs:
        for side, run in (("A", pair.a), ("B", pair.b)):
            groups.setdefault((side, run.trace), []).append(run)
    return groups.values()


def _rows(judge: Judge, force: bool) -> Iterable[Row]:
    """The rows of a table for each scope, each a family of claims."""
    tables: tuple[tuple[Scope, Sequence[Metric]], ...] = (("workload", METRICS), ("workflows", WORKFLOW_METRICS))
    for table, metrics in tables:
        yield from corrected([r for m in metrics for r in judge.row(table, m.name, m.unit, m.value)])
    for scope in SPLITS:
        yield from judge.by(scope, force)


def _side_names(pairs: Pairs | Sequence[Pair]) -> tuple[str, str]:
    """What tells the sides apart; ``A`` and ``B`` where the configurations do not."""
    a, b = pairs[0].a.configuration, pairs[0].b.configuration
    names = varying((a, b))
    return (describe(a, names), describe(b, names)) if names else ("A", "B")


def _headline(row: Row, name_a: str, name_b: str, source: str) -> str:
    evidence = "one trial" if row.pairs == 1 else f"{row.pairs} paired trials"
    if row.deterministic:
        evidence += ", deterministic"
    if row.interval is not None and row.deterministic | (row.pairs == 1):
        evidence += f", within {row.room} {change(row.interval.low)} to {change(row.interval.high)}"
    elif row.deterministic:
        evidence += ": no interval"
    if source.startswith("modelled") and row.allowance is None:
        evidence += ", its error not known"
    if row.interval is not None and row.p is not None:
        evidence += f", 95 % interval {change(row.interval.low)} to {change(row.interval.high)}"
    if row.withheld is not None:
        evidence += f"; joules rejected: {row.withheld}"
    match row.verdict:
        case "less" | "more" if row.change is not None:
            claim = f"{100 * abs(row.change):.0f} % {row.verdict} energy with {name_b} than with {name_a}"
        case "no difference":
            claim = f"as much energy with {name_b} as with {name_a}, to within {100 * MARGIN:.0f} %"
        case _:
            claim = f"cannot tell whether {name_b} or {name_a} takes less energy"
    return f"{row.trace}: {claim} ({source}; {evidence})"

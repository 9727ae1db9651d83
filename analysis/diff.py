"""What changed between two sets of runs, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Literal

from rejoule.analysis.attribution import Attribution
from rejoule.analysis.naming import describe, source_label, varying
from rejoule.analysis.pairing import Pair
from rejoule.analysis.statistics import CONFIDENCE, Interval, holm, paired_ratio
from rejoule.analysis.summary import METRICS, Summary, summarise
from rejoule.analysis.units import change, count

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
    """Adjusted for the rows of the same scope (Holm)."""
    verdict: Verdict

    @property
    def delta(self) -> float:
        return self.b - self.a


@dataclass(frozen=True, slots=True)
class Diff:
    a: str
    """What side A is called."""
    b: str
    source: str
    headlines: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]

    def of(self, scope: Scope) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.scope == scope)


def compare(pairs: Sequence[Pair], seed: int = 0) -> Diff:
    """Compare paired runs by workload, node and phase."""
    sides = {id(run): summarise(run) for pair in pairs for run in (pair.a, pair.b)}
    by_trace: dict[str, list[tuple[Summary, Summary]]] = {}
    for pair in pairs:
        by_trace.setdefault(pair.a.trace, []).append((sides[id(pair.a)], sides[id(pair.b)]))
    name_a, name_b = _side_names(pairs)
    source = source_label(run for pair in pairs for run in (pair.a, pair.b))
    rows = _corrected([row for trace, found in by_trace.items() for row in _rows(trace, found, seed)])
    return Diff(
        name_a,
        name_b,
        source,
        tuple(_headline(row, name_a, name_b, source) for row in rows if row.name == "GPU energy"),
        tuple(_notes(pairs)),
        rows,
    )


def _rows(trace: str, found: Sequence[tuple[Summary, Summary]], seed: int) -> Iterable[Row]:
    for metric in METRICS:
        values = [(metric.value(a), metric.value(b)) for a, b in found]
        yield from _row("workload", trace, metric.name, metric.unit, values, found, seed)
    parts = [(_parts(a.attribution), _parts(b.attribution)) for a, b in found]
    for scope in ("node", "phase"):
        names = dict.fromkeys(name for side in parts for part in side for name in part[scope])
        for name in names:
            values = [(a[scope].get(name), b[scope].get(name)) for a, b in parts]
            yield from _row(scope, trace, name, "J", values, found, seed)


def _parts(found: Attribution | None) -> dict[Scope, Mapping[str, float]]:
    """Joules by node and by phase, each with the lines that make them add up to the total."""
    if found is None:
        return {"node": {}, "phase": {}}
    rest = {"idle": found.idle_j} | ({"unattributed": found.unattributed_j} if found.unattributed_j else {})
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
    """Adjust p within each scope, and take back verdicts that do not survive it."""
    adjusted: dict[int, float] = {}
    for scope in ("workload", "node", "phase"):
        tested = [(i, row.p) for i, row in enumerate(rows) if row.scope == scope and row.p is not None]
        adjusted |= dict(zip((i for i, _ in tested), holm([p for _, p in tested]), strict=True))
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
    evidence = "one trial" if row.interval is None else f"{row.pairs} paired trials"
    if row.interval is not None:
        evidence += f", 95 % interval {change(row.interval.low)} to {change(row.interval.high)}"
    match row.verdict:
        case "less" | "more" if row.change is not None:
            claim = f"{name_b} uses {100 * abs(row.change):.0f} % {row.verdict} energy than {name_a}"
        case "no difference":
            claim = f"{name_b} uses as much energy as {name_a}, to within {100 * MARGIN:.0f} %"
        case _:
            claim = f"cannot tell whether {name_b} uses less energy than {name_a}"
    return f"{row.trace}: {claim} ({source}; {evidence})"


def _notes(pairs: Sequence[Pair]) -> Iterable[str]:
    for side, runs in (("A", [p.a for p in pairs]), ("B", [p.b for p in pairs])):
        failed = sum(len(run.failed_calls) for run in runs)
        if failed:
            yield f"{side}: {count(failed, 'call')} failed; their energy is counted, their latency is not"
        if any(run.certificate.tier == "none" for run in runs):
            yield f"{side} is not certified: nothing proves that both sides did the same work"
        if any(run.energy.gpu_j is None for run in runs):
            yield f"the energy of {side} was not measured in every run"
    if any(p.a.measured != p.b.measured for p in pairs):
        yield "one side is modelled and the other measured: the difference includes the model's error"
    if any(p.a.certificate.digest != p.b.certificate.digest for p in pairs):
        yield "the sides did different work: the difference is not the configuration's alone"

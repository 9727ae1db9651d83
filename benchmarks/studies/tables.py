"""Answers of findings as tables of a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from rejoule.analysis.findings.answer import shown
from rejoule.analysis.findings.reading import Answer, Reading, together
from rejoule.analysis.summary.units import change

ORDER: Final = (
    "batch-strongest",
    "batch-shared-most",
    "batch-chains-nothing",
    "batch-agents-partly",
    "caps-modest",
    "caps-free",
    "caps-cost-time",
    "output-linear",
    "continuous-saves",
    "continuous-fills",
    "continuous-decoding",
    "prefix-cache-saves",
    "parrot-tight",
    "workflow-aware-tight",
    "workflow-aware-tighter",
    "views-disagree",
    "chains-batch",
    "fan-out-batch",
    "cache-cliff",
)
"""As the paper's abstract has them, then what others found of agents; findings of a study's own come last."""


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def table(answers: Iterable[Answer]) -> str:
    """A line a finding: what it claims, whether it holds, and what each workload says."""
    ranked = sorted(answers, key=lambda a: ORDER.index(a.finding.id) if a.finding.id in ORDER else len(ORDER))
    lines = [row("finding", "on these runs", "by workload"), row("---", "---", "---")]
    lines += [row(f"{a.finding.claim} (`{a.finding.id}`)", _verdict(a), _workloads(a)) for a in ranked]
    return "\n".join(lines)


def _verdict(answer: Answer) -> str:
    """With how many comparisons say so, where there are several that can tell."""
    told = [reading.verdict for reading in answer.readings if reading.verdict != "cannot tell"]
    count = f" ({told.count('holds')} of {len(told)} comparisons hold)" if len(told) > 1 else ""
    return f"**{shown(answer)}**{count}"


def _workloads(answer: Answer) -> str:
    told = [reading for reading in answer.readings if reading.evidence]
    if not told:
        return answer.reason
    return "<br>".join(_workload(name, rows) for name, rows in _by_trace(told))


def _by_trace(readings: Sequence[Reading]) -> Iterator[tuple[str, list[Reading]]]:
    for name in dict.fromkeys(reading.trace for reading in readings):
        yield name, [reading for reading in readings if reading.trace == name]


def _workload(name: str, readings: Sequence[Reading]) -> str:
    """The verdicts of one workload, and over what its numbers range."""
    verdicts = [r.verdict for r in readings]
    words = together(verdicts)
    count = "" if len(readings) == 1 else f" in {verdicts.count(words)} of {len(readings)}"
    why = ""
    if words == "cannot tell":
        why = f" ({'; '.join(dict.fromkeys(r.reason for r in readings if r.reason))})"
    return f"{name}: {words}{count}: {_numbers(readings)}{why}"


def _numbers(readings: Sequence[Reading]) -> str:
    changes = [c for r in readings if isinstance(c := r.figures.get("change"), float)]
    if len(readings) == 1 or len(changes) < len(readings):
        extra = "" if len(readings) == 1 else f", and {len(readings) - 1} more"
        return readings[0].evidence + extra
    others = [c for r in readings if isinstance(c := r.figures.get("other_change"), float)]
    against = f" against {_range(others)}" if others else ""
    return f"{_range(changes)}{against}"


def _range(changes: Sequence[float]) -> str:
    low, high = change(min(changes)), change(max(changes))
    return low if low == high else f"{low} to {high}"

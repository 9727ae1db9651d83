"""Answers of findings as tables of a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from textwrap import fill
from typing import Final

from rejoule.analysis.findings.answer import shown
from rejoule.analysis.findings.reading import Answer, Reading, together
from rejoule.analysis.summary.units import change

WIDTH: Final = 120


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def verdicts(answers: Iterable[Answer]) -> str:
    """A line a finding: what it claims, and whether it holds."""
    rows = [row(f"{a.finding.claim} (`{a.finding.id}`)", _verdict(a)) for a in answers]
    return "\n".join((row("finding", "on these runs"), row("---", "---"), *rows))


def numbers(answers: Iterable[Answer]) -> str:
    """By finding, a line a workload: its verdict, and what it rests on."""
    return "\n\n".join(filter(None, (listed(a.finding.id, _workloads(a)) for a in answers)))


def listed(name: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    wrapped = (
        fill(f"- {line}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        for line in lines
    )
    return "\n".join((f"`{name}`:", "", *wrapped))


def _verdict(answer: Answer) -> str:
    """With how many comparisons say so, where there are several that can tell; or why nothing can be told."""
    told = [reading.verdict for reading in answer.readings if reading.verdict != "cannot tell"]
    count = f" ({told.count('holds')} of {len(told)} comparisons hold)" if len(told) > 1 else ""
    why = "" if any(reading.evidence for reading in answer.readings) else f": {answer.reason}"
    return f"**{shown(answer)}**{count}{why}"


def _workloads(answer: Answer) -> list[str]:
    told = [reading for reading in answer.readings if reading.evidence]
    return [_workload(name, rows) for name, rows in _by_trace(told)]


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

"""Why the joules of two configurations differ, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from rejoule.analysis.causes import Causes
from rejoule.analysis.causes.result import SAID, Piece, unsure_notes
from rejoule.analysis.causes.views import Part
from rejoule.analysis.cli.console import say, show
from rejoule.analysis.summary.units import change, percent, signed

BASES: Final = {
    "counterfactual steps": "steps as the model says they would be with less in them, and at the greatest clock",
    "fitted costs": "costs fitted to both sides; ± is of the fit and of the trials, not of the sensor's gain",
    "step times": "what work's time is worth at its run's mean power, as nothing tells what each step drew: no ±",
    "totals": "joules of whole runs",
}


def show_causes(found: Causes, by: str = "node") -> None:
    """With a second table ``by`` node or agent; causes have no phases."""
    say(f"{found.trace}: {found.sentence()}", "bold")
    rows = [
        (cause.words, *_numbers(cause.joules, cause.share, cause.half_width_j, cause.unclear)) for cause in found.causes
    ]
    heading = ("Δ", "of A", "± 95 %", "")
    reasons = dict.fromkeys(f"{c.words}: {c.reason}" for c in found.causes if c.reason is not None)
    show(f"{found.trace}: why the joules differ", ("cause", *heading), rows, f"by {BASES[found.basis]}")
    part: Part | None = "agent" if by == "agent" else "node" if by == "node" else None
    told = () if part is None else found.told(part)
    if part is not None and told:
        _show_pieces(found, told, part, heading)
    for reason in (*reasons, *unsure_notes(told), *(found.notes if told else ())):
        say(f"note: {reason}", "yellow")


def _show_pieces(found: Causes, told: Sequence[Piece], by: Part, heading: Iterable[str]) -> None:
    """Causes line by line, as far as they are worth a word."""
    rows = [
        (f"{p.line}: {p.cause}", *_numbers(p.joules, p.joules / found.a_j, p.half_width_j, p.unclear)) for p in told
    ]
    left = len(found.pieces(by)) - len(told)
    caption = f"{left} more of less than {percent(SAID)} of A each: --json" if left else ""
    show(f"{found.trace}: the same by {by}", (f"{by}: cause", *heading), rows, caption)


def _numbers(joules: float, share: float | None, half_j: float | None, unclear: bool) -> tuple[str, str, str, str]:
    width = "" if half_j is None else f"±{signed(half_j, 'J').lstrip('+')}"
    return signed(joules, "J"), change(share), width, "unclear" if unclear else ""


def causes_json(found: Causes) -> dict[str, Any]:
    return asdict(found) | {
        "delta_j": found.delta_j,
        "sentence": found.sentence(),
        "causes": [asdict(cause) | {"words": cause.words, "unclear": cause.unclear} for cause in found.causes],
    }

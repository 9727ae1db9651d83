"""Why the joules of two configurations differ, as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from rejoule.analysis.causes import Causes
from rejoule.analysis.cli.console import say, show
from rejoule.analysis.summary.units import change, signed

BASES: Final = {
    "counterfactual steps": "steps as the model says they would be with less in them, and at the greatest clock",
    "fitted costs": "costs fitted to both sides; ± is of the fit and of the trials, not of the sensor's gain",
    "step times": "what work's time is worth at its run's mean power, as nothing tells what each step drew: no ±",
    "totals": "joules of whole runs",
}


def show_causes(found: Causes) -> None:
    say(f"{found.trace}: {found.sentence()}", "bold")
    rows = [
        (
            cause.words,
            signed(cause.joules, "J"),
            change(cause.share),
            "" if cause.half_width_j is None else f"±{signed(cause.half_width_j, 'J').lstrip('+')}",
            "unclear" if cause.unclear else "",
        )
        for cause in found.causes
    ]
    heading = ("cause", "Δ", "of A", "± 95 %", "")
    reasons = dict.fromkeys(f"{c.words}: {c.reason}" for c in found.causes if c.reason is not None)
    show(f"{found.trace}: why the joules differ", heading, rows, f"by {BASES[found.basis]}")
    for reason in reasons:
        say(f"note: {reason}", "yellow")


def causes_json(found: Causes) -> dict[str, Any]:
    return asdict(found) | {
        "delta_j": found.delta_j,
        "sentence": found.sentence(),
        "causes": [asdict(cause) | {"words": cause.words, "unclear": cause.unclear} for cause in found.causes],
    }

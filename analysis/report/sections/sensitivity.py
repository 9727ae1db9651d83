"""Which knob moves the joules, and which moves nothing."""

from __future__ import annotations

from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.doubts import below
from rejoule.analysis.report.markup import listed, paragraph, table
from rejoule.analysis.report.material import Material
from rejoule.analysis.sensitivity import Effect, Sensitivity, sensitivities_of
from rejoule.analysis.summary.units import change, percent
from rejoule.traces.errors import RejouleError


def html(material: Material) -> str | None:
    """A table a workload; nothing where nothing was varied."""
    try:
        found = sensitivities_of(material.workloads)
    except RejouleError:
        return None
    notes = listed(below(material.workloads, (note for one in found for note in one.notes)), "notes")
    return f"<p>{badge(material.runs)}</p>{''.join(map(_one, found))}{notes}"


def _one(found: Sensitivity) -> str:
    heads = ("change of", f"{found.figure}", "share of variance", "verdict")
    rows = [_row(found, effect) for effect in found.effects]
    said = listed(
        [*map(str, found.interplays), *(f"{e.label}: {e.reason}" for e in found.effects if e.reason)], "notes"
    )
    return f'<div class="box">{paragraph(found.headline, "lead")}{table(heads, rows, found.trace)}{said}</div>'


def _row(found: Sensitivity, effect: Effect) -> tuple[str, ...]:
    inert = "inert in the model" if effect.verdict == "inert" and found.modelled else effect.verdict
    return f"{effect.start} → {effect.end}", change(effect.change), percent(effect.share), inert

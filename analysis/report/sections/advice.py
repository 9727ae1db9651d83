"""What to set."""

from __future__ import annotations

from typing import Final

from rejoule.analysis.advice import Advice, Candidate, Estimate, advise
from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.doubts import below
from rejoule.analysis.report.markup import listed, paragraph, table
from rejoule.analysis.report.material import Material
from rejoule.analysis.summary.units import amount, percent
from rejoule.analysis.summary.words import BY_NAME
from rejoule.traces.errors import RejouleError

UNASKED: Final = (
    "No objective was named, so joules alone decide. With rejoule report RUNS --slo workflow.p99=20s --power 400W "
    "what must be kept is kept; rejoule advise tells more, and names the cells worth running."
)


def html(material: Material) -> str | None:
    """The advised configuration of each workload; nothing where there is no choice."""
    if all(len(workload.cells) < 2 for workload in material.workloads):
        return None
    try:
        found = advise(material.workloads, material.objectives, confirm=0)
    except RejouleError as error:
        return paragraph(error.what, "note")
    unasked = "" if material.objectives else paragraph(UNASKED, "note")
    notes = listed(below(material.workloads, (note for one in found for note in one.notes)), "notes")
    return f"<p>{badge(material.runs)}</p>{''.join(map(_one, found))}{unasked}{notes}"


def _one(found: Advice) -> str:
    names = list(found.candidates[0].figures) if found.candidates else []
    asked = ("objectives", "chance") if found.objectives else ()
    success = ("J a success", "succeeded") if any(one.succeeded is not None for one in found.candidates) else ()
    heads = ("configuration", "J a workflow", *success, *names, *asked, "workflows an hour a GPU", "agents a MW")
    chosen = [found.best, found.only, found.today, found.nearest, *found.front, *found.rivals]
    shown = {id(one): one for one in chosen if one is not None}
    rows = [_row(one, names, bool(found.objectives), bool(success)) for one in shown.values()]
    return f'<div class="box">{paragraph(found.headline, "lead")}{table(heads, rows, found.trace)}</div>'


def _row(one: Candidate, names: list[str], asked: bool, judged: bool) -> tuple[str, ...]:
    return (
        one.label,
        _joules(one.joules),
        *((_joules(one.success_joules), amount(one.succeeded, "share")) if judged else ()),
        *(amount(None if (v := one.figures[name]) is None else v.value, BY_NAME[name].unit) for name in names),
        *((one.verdict, percent(one.chance)) if asked else ()),
        amount(one.workflows_per_gpu_h, "/h"),
        "–" if one.agents_per_mw is None else f"{one.agents_per_mw:,.0f}",
    )


def _joules(found: Estimate | None) -> str:
    return amount(None if found is None else found.value, "J")

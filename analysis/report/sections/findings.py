"""What others found about agents and energy, and whether it holds on these runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from rejoule.analysis.findings.answer import answers_of, in_the_model, of_nodes, shown
from rejoule.analysis.findings.finding import read_all, shipped_paths
from rejoule.analysis.findings.place import Place
from rejoule.analysis.findings.reading import Answer
from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.markup import listed, paragraph, table
from rejoule.analysis.report.material import Material

WHERE: Final = Path()
"""The page is of one folder, whatever it is called."""


def html(material: Material) -> str | None:
    """Those that these runs can say something of; nothing if there are none."""
    places = [Place(workload.name, workload, WHERE) for workload in material.workloads]
    found = answers_of(places, read_all(shipped_paths()))
    told = [answer for answer in found if answer.verdict != "cannot tell"]
    if not told:
        return None
    rows = [(a.finding.claim, shown(a), a.reason, _carried(a), a.finding.source) for a in told]
    heads = ("finding", "on these runs", "because", "carried by", "who found it")
    lines = table(heads, rows, "known findings")
    rest = f"{len(found) - len(told)} more cannot be told from these runs: rejoule findings says what each would need."
    said = listed([*in_the_model(told), *of_nodes(told)], "notes")
    return f'<p>{badge(material.runs)}</p><div class="box">{lines}{paragraph(rest, "note")}</div>{said}'


def _carried(answer: Answer) -> str:
    """The nodes of each workload, in a line each."""
    return "\n".join(f"{each.trace}, {each.quantity} a workflow: {each.sentence()}" for each in answer.carried)

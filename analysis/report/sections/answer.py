"""The answer in words, and what stands against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.doubts import common_doubts, doubts
from rejoule.analysis.report.findings import Finding, findings
from rejoule.analysis.report.markup import listed
from rejoule.analysis.report.material import Material
from rejoule.analysis.summary.cells import Workload
from rejoule.analysis.summary.naming import describe, varying
from rejoule.traces.words import counted


def html(material: Material) -> str:
    """One card a workload; what all of them would say is said once, below."""
    found = [findings(workload) for workload in material.workloads]
    shared = _shared(found)
    cards = "".join(
        _card(f"w{i}", workload, one, shared)
        for i, (workload, one) in enumerate(zip(material.workloads, found, strict=True))
    )
    below = listed(shared, "notes")
    return f'{_warnings(material)}{_refused(material)}<div class="findings">{cards}</div>{below}'


def _shared(found: Sequence[Finding]) -> list[str]:
    if len(found) < 2:
        return []
    return [line for line in found[0].sentences if all(line in other.sentences for other in found)]


def _warnings(material: Material) -> str:
    """Each doubt once, with all that it is about before it, and then those that are about everything."""
    about: dict[str, list[str]] = {}
    for workload in material.workloads:
        for line in doubts(workload):
            place, _, doubt = line.removeprefix(workload.name).partition(": ")
            about.setdefault(doubt, []).append(f"{workload.name}{place}")
    placed = (f"{'; '.join(places)}: {doubt}" for doubt, places in about.items())
    lines = listed([*placed, *common_doubts(material.workloads)])
    return lines and f'<div class="warnings" role="alert" tabindex="0"><h3>Read with care</h3>{lines}</div>'


def _refused(material: Material) -> str:
    """What the experiment left out, each reason once for all trials."""
    refused = material.refused
    if not refused:
        return ""
    trace = {planned.id: planned.trace for planned in material.experiment.runs}
    names = varying([*(run.configuration for run in material.runs), *(one.configuration for one in refused)])
    found = Counter((trace.get(one.run, ""), describe(one.configuration, names), one.reason) for one in refused)
    said = (
        f"{', '.join(filter(None, (name, knobs)))}: {reason} ({counted(times, 'run')})"
        for (name, knobs, reason), times in found.items()
    )
    return f'<div class="refused" tabindex="0"><h3>Left out</h3>{listed(said)}</div>'


def _card(key: str, workload: Workload, found: Finding, shared: Sequence[str]) -> str:
    source = badge(s.run for cell in workload.cells for s in cell.trials)
    return (
        f'<article class="finding" data-panel="{key}"><h3><button>{escape(workload.name)}</button></h3>'
        f'<p class="figure">{escape(found.figure)}</p><p class="caption">{escape(found.caption)}</p>'
        f"{listed(line for line in found.sentences if line not in shared)}{source}</article>"
    )

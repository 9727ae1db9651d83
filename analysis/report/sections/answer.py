"""The answer in words, and what stands against it."""

from __future__ import annotations

from collections import Counter
from html import escape

from rejoule.analysis.report.badge import badge
from rejoule.analysis.report.doubts import doubts
from rejoule.analysis.report.findings import findings
from rejoule.analysis.report.markup import listed
from rejoule.analysis.report.material import Material
from rejoule.analysis.summary.cells import Workload
from rejoule.analysis.summary.naming import describe, varying
from rejoule.traces.words import counted


def html(material: Material) -> str:
    """One card a workload."""
    cards = "".join(_card(f"w{i}", workload) for i, workload in enumerate(material.workloads))
    return f'{_warnings(material)}{_refused(material)}<div class="findings">{cards}</div>'


def _warnings(material: Material) -> str:
    found = doubts(material.workloads)
    if not found:
        return ""
    return f'<div class="warnings" role="alert"><h3>Read with care</h3>{listed(found)}</div>'


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
    return f'<div class="refused"><h3>Left out</h3>{listed(said)}</div>'


def _card(key: str, workload: Workload) -> str:
    found = findings(workload)
    source = badge(s.run for cell in workload.cells for s in cell.trials)
    return (
        f'<article class="finding" data-panel="{key}"><h3><button>{escape(workload.name)}</button></h3>'
        f'<p class="figure">{escape(found.figure)}</p><p class="caption">{escape(found.caption)}</p>'
        f"{listed(found.sentences)}{source}</article>"
    )

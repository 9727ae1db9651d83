"""Cells whose figure may be compared, and why others may not."""

from __future__ import annotations

from collections import defaultdict

from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.summary import Metric


def usable(workload: Workload, metric: Metric) -> tuple[list[Cell], list[str]]:
    """Cells that did all the work and tell the figure, with joules that may be used; what is left out is told."""
    kept, left = list[Cell](), defaultdict[str, list[str]](list)
    for cell in workload.cells:
        if (reason := _unusable(cell, metric)) is None:
            kept.append(cell)
        else:
            left[reason].append(cell.label)
    whole = len(workload.cells)
    return kept, [
        f"{'all configurations' if len(labels) == whole else '; '.join(labels)} left out: {reason}"
        for reason, labels in left.items()
    ]


def _unusable(cell: Cell, metric: Metric) -> str | None:
    if not cell.complete:
        return "not all of its work was done"
    if metric.unit in ("J", "W") and cell.evidence.rejected:
        return f"do not use its joules: {'; '.join(cell.evidence.rejected)}"
    known = [value for value in map(metric.value, cell.trials) if value is not None]
    if len(known) < len(cell.trials):
        return f"{metric.name} is not known" + (" of all trials" if known else "")
    return f"{metric.name} is 0, and changes are ratios" if min(known) <= 0.0 else None

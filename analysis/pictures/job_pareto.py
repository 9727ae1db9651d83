"""Workflows an hour a user against workflows an hour a GPU, over all configurations: the job Pareto of TensorRT-LLM."""

from __future__ import annotations

from rejoule.analysis.pictures.picture import Picture
from rejoule.analysis.pictures.scatter import scatter
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.workflows import told
from rejoule.traces.words import counted

SAID = ("energy per workflow", "workflow latency p50", "workflow latency p99", "slowdown by waiting", "Jain's index")
"""What is said of a point besides where it lies."""


def job_pareto(workload: Workload) -> Picture | None:
    """Every configuration as a point, coloured by batch size, with the front that none of them beats; ``None`` where
    there is nothing to compare."""
    if not workload.job_front or len(workload.cells) == 1:
        return None
    shown = [cell for cell in workload.cells if cell.jobs is not None]
    names = ("workflows an hour a user", "workflows an hour a GPU")
    svg = scatter(shown, workload.job_front, _place, _said, names)
    note = "complete workflows; the dotted line joins what nothing beats in both; choose a point to inspect it"
    if len(shown) < len(workload.cells):
        note += f"; {counted(len(workload.cells) - len(shown), 'configuration')} of unknown rates left out"
    return Picture("job-pareto", "Workflows an hour: a user against a GPU", note, svg)


def _place(cell: Cell) -> tuple[float, float]:
    assert cell.jobs is not None
    return cell.jobs


def _said(cell: Cell) -> list[str]:
    found = {figure.name: figure for figure in told(cell.trials)}
    names = ("workflows an hour a user", "workflows an hour a GPU", *SAID)
    known = [f"{name} {found[name]}" for name in names if found[name].value is not None]
    undone = [] if cell.complete else ["some of its work was not done: on no front"]
    return [cell.label, *known, *undone]

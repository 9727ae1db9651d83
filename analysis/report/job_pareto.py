"""Workflows an hour a user against workflows an hour a GPU, over all configurations: the job Pareto of TensorRT-LLM."""

from __future__ import annotations

from rejoule.analysis.report.figures import Figure, axis, figure, rounded, span
from rejoule.analysis.report.scatter import front_and_points
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.workflows import told

HOVER = ("energy per workflow", "workflow latency p50", "workflow latency p99", "slowdown by waiting", "Jain's index")
"""What is said of a point besides where it lies."""


def job_pareto(workload: Workload) -> Figure:
    """Every configuration as a point, coloured by batch size, with the front that none of them beats."""
    shown = [cell for cell in workload.cells if cell.jobs is not None]
    users, gpus = zip(*map(_place, shown), strict=True)
    return figure(
        front_and_points(shown, workload.job_front, _place, _hover),
        430,
        xaxis=axis("workflows an hour a user", **span(users, 0.12)),
        yaxis=axis("workflows an hour a GPU", **span(gpus, 0.16)),
    )


def _place(cell: Cell) -> tuple[float, float]:
    assert cell.jobs is not None
    user, gpu = cell.jobs
    return rounded(user), rounded(gpu)


def _hover(cell: Cell) -> str:
    found = {figure.name: figure for figure in told(cell.trials)}
    names = ("workflows an hour a user", "workflows an hour a GPU", *HOVER)
    known = [f"{name} {found[name]}" for name in names if found[name].value is not None]
    undone = [] if cell.complete else ["some of its work was not done: on no front"]
    return "<br>".join([f"<b>{cell.label}</b>", *known, *undone])

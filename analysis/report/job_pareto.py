"""Workflows an hour a user against workflows an hour a GPU, over all configurations: the job Pareto of TensorRT-LLM."""

from __future__ import annotations

from collections.abc import Sequence

from rejoule.analysis.report.figures import Figure, axis, figure, ramp, rounded, span
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.cells import axis as knob_axis
from rejoule.analysis.summary.naming import describe
from rejoule.analysis.summary.workflows import told

HOVER = ("energy per workflow", "workflow latency p50", "workflow latency p99", "slowdown by waiting", "Jain's index")
"""What is said of a point besides where it lies."""


def job_pareto(workload: Workload) -> Figure:
    """Every configuration as a point, coloured by batch size, with the front that none of them beats."""
    shown = [cell for cell in workload.cells if cell.jobs is not None]
    batches = knob_axis(shown, "max_num_seqs")
    users, gpus = _places(shown)
    front_users, front_gpus = _places(workload.job_front)
    front = {
        "type": "scatter",
        "mode": "lines",
        "name": "front",
        "x": front_users,
        "y": front_gpus,
        "line": {"color": "var(--ink-3)", "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }
    points = [
        _points([c for c in shown if c.configuration.max_num_seqs == batch], ramp(i, len(batches)), workload)
        for i, batch in enumerate(batches)
    ]
    return figure(
        [front, *points],
        430,
        xaxis=axis("workflows an hour a user", **span(users, 0.12)),
        yaxis=axis("workflows an hour a GPU", **span(gpus, 0.16)),
    )


def _places(cells: Sequence[Cell]) -> tuple[list[float], list[float]]:
    known = [cell.jobs for cell in cells if cell.jobs is not None]
    return [rounded(user) for user, _ in known], [rounded(gpu) for _, gpu in known]


def _points(cells: Sequence[Cell], colour: str, workload: Workload) -> Figure:
    users, gpus = _places(cells)
    on_front = [cell in workload.job_front for cell in cells]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": describe(cells[0].configuration, ("max_num_seqs",)),
        "x": users,
        "y": gpus,
        "customdata": [c.label for c in cells],
        "hovertext": [_hover(c) for c in cells],
        "hoverinfo": "text",
        "marker": {
            "color": colour,
            "size": [13 if front else 9 for front in on_front],
            "opacity": [1.0 if front else 0.7 for front in on_front],
            "line": {"color": "var(--surface)", "width": 1.5},
        },
    }


def _hover(cell: Cell) -> str:
    found = {figure.name: figure for figure in told(cell.trials)}
    names = ("workflows an hour a user", "workflows an hour a GPU", *HOVER)
    known = [f"{name} {found[name]}" for name in names if found[name].value is not None]
    undone = [] if cell.complete else ["some of its work was not done: on no front"]
    return "<br>".join([f"<b>{cell.label}</b>", *known, *undone])

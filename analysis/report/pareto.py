"""Energy against latency over all configurations."""

from __future__ import annotations

from collections.abc import Sequence

from rejoule.analysis.report.figures import Figure, axis, figure, joule_scale, ramp, rounded, span
from rejoule.analysis.report.heatmap import cap_mark
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.cells import axis as knob_axis
from rejoule.analysis.summary.naming import describe
from rejoule.analysis.summary.units import amount


def pareto(workload: Workload) -> Figure:
    """Every configuration as a point, coloured by batch size, with the front that none of them beats."""
    shown = [c for c in workload.cells if c.energy_j is not None and c.latency_s is not None]
    batches = knob_axis(shown, "max_num_seqs")
    factor, unit = joule_scale(max((c.energy_j or 0.0 for c in shown), default=None))
    front = {
        "type": "scatter",
        "mode": "lines",
        "name": "front",
        "x": [rounded(c.latency_s) for c in workload.front],
        "y": [rounded((c.energy_j or 0.0) / factor) for c in workload.front],
        "line": {"color": "var(--ink-3)", "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }
    points = [
        _points([c for c in shown if c.configuration.max_num_seqs == batch], ramp(i, len(batches)), factor, workload)
        for i, batch in enumerate(batches)
    ]
    latency, energy = [c.latency_s or 0.0 for c in shown], [(c.energy_j or 0.0) / factor for c in shown]
    return figure(
        [front, *points, *_names(workload, factor)],
        430,
        xaxis=axis("median workflow latency (s)", **span(latency, 0.12)),
        yaxis=axis(f"GPU energy ({unit})", **span(energy, 0.16)),
        legend2={"orientation": "h", "x": 0, "y": -0.24, "yanchor": "top"},
    )


def _points(cells: Sequence[Cell], colour: str, factor: float, workload: Workload) -> Figure:
    on_front = [cell in workload.front for cell in cells]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": describe(cells[0].configuration, ("max_num_seqs",)),
        "x": [rounded(c.latency_s) for c in cells],
        "y": [rounded((c.energy_j or 0.0) / factor) for c in cells],
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
    mark = cap_mark(cell)
    lines = [
        f"<b>{cell.label}</b>",
        f"{amount(cell.energy_j, 'J')} · {amount(cell.latency_s, 's')}",
        *([mark] if mark else []),
    ]
    return "<br>".join(lines)


def _names(workload: Workload, factor: float) -> list[Figure]:
    """Rings around the front's knee and ends, named in the legend."""
    named: dict[str, Cell] = {}
    if len(workload.front) > 1:
        named = {"fastest": workload.front[0], "least energy": workload.front[-1]}
    if workload.knee is not None:
        named["best trade-off"] = workload.knee
    shapes = {"fastest": "diamond-open", "least energy": "square-open", "best trade-off": "circle-open"}
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"{why}: {cell.label}",
            "x": [rounded(cell.latency_s)],
            "y": [rounded((cell.energy_j or 0.0) / factor)],
            "hoverinfo": "skip",
            "legend": "legend2",
            "marker": {"symbol": shapes[why], "size": 20, "color": "var(--power)", "line": {"width": 2}},
        }
        for why, cell in named.items()
    ]

"""Energy against latency over all configurations."""

from __future__ import annotations

from rejoule.analysis.report.figures import Figure, axis, figure, joule_scale, span
from rejoule.analysis.report.heatmap import cap_mark
from rejoule.analysis.report.scatter import Place, front_and_points, places
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.units import amount


def pareto(workload: Workload) -> Figure:
    """Every configuration as a point, coloured by batch size, with the front that none of them beats."""
    shown = [c for c in workload.cells if c.energy_j is not None and c.latency_s is not None]
    factor, unit = joule_scale(max((c.energy_j or 0.0 for c in shown), default=None))

    def place(cell: Cell) -> tuple[float, float]:
        return cell.latency_s or 0.0, (cell.energy_j or 0.0) / factor

    latency, energy = zip(*map(place, shown), strict=True)
    return figure(
        [*front_and_points(shown, workload.front, place, _hover), *_names(workload, place)],
        430,
        xaxis=axis("median workflow latency (s)", **span(latency, 0.12)),
        yaxis=axis(f"GPU energy ({unit})", **span(energy, 0.16)),
        legend2={"orientation": "h", "x": 0, "y": -0.24, "yanchor": "top"},
    )


def _hover(cell: Cell) -> str:
    mark = cap_mark(cell)
    lines = [
        f"<b>{cell.label}</b>",
        f"{amount(cell.energy_j, 'J')} · {amount(cell.latency_s, 's')}",
        *([mark] if mark else []),
    ]
    return "<br>".join(lines)


def _names(workload: Workload, place: Place) -> list[Figure]:
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
            **places([cell], place),
            "hoverinfo": "skip",
            "legend": "legend2",
            "marker": {"symbol": shapes[why], "size": 20, "color": "var(--power)", "line": {"width": 2}},
        }
        for why, cell in named.items()
    ]

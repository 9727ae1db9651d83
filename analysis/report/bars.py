"""Energy by node over all configurations."""

from __future__ import annotations

from rejoule.analysis.report.figures import SERIES, Figure, axis, brief, figure, joule_scale, rounded
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.naming import describe
from rejoule.analysis.summary.units import amount, percent

MOST_NODES = len(SERIES)


def stacked(workload: Workload) -> Figure:
    """A bar for every configuration, split by node, with waiting and idle on top."""
    cells = [cell for cell in workload.cells if cell.energy_j is not None]
    names = ranked_nodes(workload)
    kept = names if len(names) <= MOST_NODES else names[: MOST_NODES - 1]
    layers = [(name, [_joules(cell, name) for cell in cells], SERIES[i]) for i, name in enumerate(kept)]
    if len(kept) < len(names):
        rest = [sum(_joules(cell, name) or 0.0 for name in names[len(kept) :]) for cell in cells]
        layers.append((f"{len(names) - len(kept)} more nodes", [*rest], SERIES[-1]))
    if any(cell.tool_wait_j for cell in cells):
        layers.append(("tool wait", [cell.tool_wait_j for cell in cells], "var(--tool)"))
    layers.append(("idle", [cell.idle_j for cell in cells], "var(--idle)"))
    if any(cell.unattributed_j for cell in cells):
        layers.append(("unattributed", [cell.unattributed_j for cell in cells], "var(--line)"))
    factor, unit = joule_scale(max((cell.energy_j or 0.0 for cell in cells), default=None))
    places = _places(workload, cells)
    return figure(
        [_layer(name, cells, places, joules, factor, colour) for name, joules, colour in layers],
        430,
        barmode="stack",
        bargap=0.2,
        xaxis=axis(showgrid=False, dividercolor="var(--line)", tickfont={"size": 11}),
        yaxis=axis(f"GPU energy ({unit})", rangemode="tozero"),
    )


def _places(workload: Workload, cells: list[Cell]) -> Figure:
    """Caps grouped under their batch size, where those are all that varies."""
    caps = {cell.configuration.power_cap_w for cell in cells}
    batches = {cell.configuration.max_num_seqs for cell in cells}
    if len(workload.facets) > 1 or len(caps) < 2 or len(batches) < 2:
        return {"x": [cell.label for cell in cells]}
    outer = [describe(cell.configuration, ("max_num_seqs",)) for cell in cells]
    caps_w = [describe(cell.configuration, ("power_cap_w",)) for cell in cells]
    inner = [cap.removesuffix(" cap") if cap.endswith(" W cap") else cap for cap in caps_w]
    return {"x": [outer, inner]}


def ranked_nodes(workload: Workload) -> list[str]:
    """Nodes by their most joules in any configuration, largest first."""
    most: dict[str, float] = {}
    for cell in workload.cells:
        for name, energy in cell.nodes.items():
            most[name] = max(most.get(name, 0.0), energy.total_j)
    return sorted(most, key=lambda name: (-most[name], name))


def _joules(cell: Cell, name: str) -> float | None:
    found = cell.nodes.get(name)
    return None if found is None else found.total_j


def _layer(
    name: str, cells: list[Cell], places: Figure, joules: list[float | None], factor: float, colour: str
) -> Figure:
    hover = [
        f"<b>{name}</b> · {cell.label}<br>{amount(j, 'J')}"
        + (f" · {percent(j / cell.energy_j)}" if j is not None and cell.energy_j else "")
        for cell, j in zip(cells, joules, strict=True)
    ]
    return {
        "type": "bar",
        "name": brief(name),
        **places,
        "y": [None if j is None else rounded(j / factor) for j in joules],
        "customdata": [cell.label for cell in cells],
        "hovertext": hover,
        "hoverinfo": "text",
        "marker": {"color": colour, "line": {"color": "var(--surface)", "width": 1}},
    }

"""Energy by node over all configurations."""

from __future__ import annotations

from typing import Final

from rejoule.analysis.pictures.axes import across
from rejoule.analysis.pictures.palette import SERIES, series
from rejoule.analysis.pictures.picture import Picture
from rejoule.analysis.pictures.scale import from_zero, joule_scale
from rejoule.analysis.pictures.svg import Markup, drawing, element, picked, words
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.units import amount, percent

MOST_NODES: Final = SERIES
WIDTH: Final = 1120
LEFT: Final = 210
ROW: Final = 30
TOP: Final = 12
LONGEST: Final = 30
"""Letters of a label that fit left of its bar."""

Layer = tuple[str, str, list[float | None]]
"""Name, colour, joules by configuration."""


def stacked(workload: Workload) -> Picture | None:
    """A bar for every configuration, split by node, with waiting and idle at its end; ``None`` for fewer than two."""
    cells = [cell for cell in workload.cells if cell.energy_j is not None]
    if len(cells) < 2:
        return None
    layers = _layers(workload, cells)
    factor, unit = joule_scale(max(cell.energy_j or 0.0 for cell in cells))
    x = from_zero(max(cell.energy_j or 0.0 for cell in cells) / factor, LEFT, WIDTH - 70)
    bottom = TOP + ROW * len(cells)
    key, lines = _key(layers, bottom + 64)
    rows: list[Markup] = []
    for i, cell in enumerate(cells):
        y, at = TOP + ROW * i, 0.0
        rows.append(words(_brief(cell.label), LEFT - 10, y + 19, text_anchor="end", fill="var(--ink)"))
        for name, colour, joules in layers:
            j = joules[i]
            if not j:
                continue
            start, end = x(at / factor), x((at + j) / factor)
            at += j
            said = [f"{name} · {cell.label}", amount(j, "J") + _share(cell, j)]
            box = element("rect", x=start, y=y + 4, width=max(0.3, end - start - 1), height=ROW - 8, fill=colour)
            rows.append(picked(box, None, said))
        rows.append(words(amount(cell.energy_j, "J"), x(at / factor) + 6, y + 19, font_size=12))
    svg = drawing(
        WIDTH,
        bottom + 54 + 22 * lines,
        "joules by node, every configuration",
        *across(x, TOP, bottom, f"GPU energy ({unit})"),
        *rows,
        *key,
    )
    missing = len(workload.cells) - len(cells)
    note = "mean over trials" + (f"; {missing} configurations without energy left out" if missing else "")
    return Picture("joules-by-node", "Joules by node, every configuration", note, svg)


def _layers(workload: Workload, cells: list[Cell]) -> list[Layer]:
    names = ranked_nodes(workload)
    kept = names if len(names) <= MOST_NODES else names[: MOST_NODES - 1]
    found: list[Layer] = [(name, series(i), [_joules(cell, name) for cell in cells]) for i, name in enumerate(kept)]
    if len(kept) < len(names):
        rest: list[float | None] = [sum(_joules(cell, name) or 0.0 for name in names[len(kept) :]) for cell in cells]
        found.append((f"{len(names) - len(kept)} more nodes", series(SERIES - 1), rest))
    withheld: list[float | None] = [_calls(cell) if cell.withheld else None for cell in cells]
    found += [
        ("all calls, nodes withheld", series(SERIES - 1), withheld),
        ("tool wait", "var(--tool)", [cell.tool_wait_j for cell in cells]),
        ("idle", "var(--idle)", [cell.idle_j for cell in cells]),
        ("unattributed", "var(--line)", [cell.unattributed_j for cell in cells]),
    ]
    return [layer for layer in found if any(layer[2])]


def _calls(cell: Cell) -> float:
    """Joules of the calls, where those of nodes are withheld."""
    return (cell.energy_j or 0.0) - sum(j or 0.0 for j in (cell.idle_j, cell.tool_wait_j, cell.unattributed_j))


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


def _share(cell: Cell, joules: float) -> str:
    return f" · {percent(joules / cell.energy_j)}" if cell.energy_j else ""


def _key(layers: list[Layer], y: float) -> tuple[list[Markup], int]:
    """Colours with their names, in as many lines as they need."""
    marks: list[Markup] = []
    x, line = float(LEFT), 0
    for name, colour, _ in layers:
        text = _brief(name)
        room = 34.0 + 7.2 * len(text)
        if x + room > WIDTH and x > LEFT:
            x, line = float(LEFT), line + 1
        marks.append(element("rect", x=x, y=y + 22 * line - 10, width=11, height=11, rx=3, fill=colour))
        marks.append(words(text, x + 17, y + 22 * line, font_size=12))
        x += room
    return marks, line + 1


def _brief(name: str) -> str:
    """A name's end, where it is too long."""
    return name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]

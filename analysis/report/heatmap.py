"""Energy or latency over batch size × power cap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log10
from typing import Final

from rejoule.analysis.report.figures import HEAT, Figure, axis, figure, rounded
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.cells import axis as knob_axis
from rejoule.analysis.summary.naming import is_foreign
from rejoule.analysis.summary.units import amount, percent

LEAST_SPAN: Final = 0.1
"""The colours span at least this share of the least value."""


def heatmap(cells: Sequence[Cell], value: Callable[[Cell], float | None], unit: str) -> Figure:
    """One row a cap, one column a batch size, the least value outlined; says where a cap did not bind."""
    batches = knob_axis(cells, "max_num_seqs")
    caps = knob_axis(cells, "power_cap_w")
    place = {(c.configuration.max_num_seqs, c.configuration.power_cap_w): c for c in cells}
    engines = {cell.configuration.engine for cell in cells}
    foreign = any(is_foreign(cell.configuration) for cell in cells)
    columns = [("as started" if foreign else "default") if b is None else f"{b:g}" for b in batches]
    rows = [("none" if engines == {"sim"} else "not set") if c is None else f"{c:g} W" for c in caps]
    grid = [[place.get((b, c)) for b in batches] for c in caps]  # type: ignore[arg-type]
    values = [[None if cell is None else value(cell) for cell in row] for row in grid]
    trace = {
        "type": "heatmap",
        "x": columns,
        "y": rows,
        "z": _shades(values),
        **_least_span(values),
        "text": [[_text(c, v, unit) for c, v in zip(*pair, strict=True)] for pair in zip(grid, values, strict=True)],
        "hovertext": [
            [_hover(c, v, unit) for c, v in zip(*pair, strict=True)] for pair in zip(grid, values, strict=True)
        ],
        "customdata": [[None if cell is None else cell.label for cell in row] for row in grid],
        "texttemplate": "%{text}",
        "hoverinfo": "text",
        "hoverongaps": False,
        "colorscale": HEAT,
        "showscale": False,
        "xgap": 3,
        "ygap": 3,
        "textfont": {"size": 13},
    }
    known = [(v, (i, j)) for j, row in enumerate(values) for i, v in enumerate(row) if v is not None]
    shapes = []
    if len(known) > 1:
        i, j = min(known)[1]
        edge = {"color": "var(--ink)", "width": 2}
        shapes = [{"type": "rect", "x0": i - 0.48, "x1": i + 0.48, "y0": j - 0.46, "y1": j + 0.46, "line": edge}]
    plain = {"showgrid": False, "type": "category", "ticks": "", "showline": False, "fixedrange": True}
    return figure(
        [trace],
        max(170, 88 + 56 * len(rows)),
        xaxis=axis("batch size (max_num_seqs)", **plain),
        yaxis=axis("power cap", **plain),
        shapes=shapes,
    )


def _shades(values: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """What colours the cells: the values, or their logarithms where they differ so much that most would look alike."""
    known = [v for row in values for v in row if v is not None]
    if not known or min(known) <= 0.0 or max(known) < 3.0 * min(known):
        return [[rounded(v) for v in row] for row in values]
    return [[None if v is None else rounded(log10(v)) for v in row] for row in values]


def _least_span(values: Sequence[Sequence[float | None]]) -> Figure:
    """Keeps values that hardly differ from being coloured as if they did."""
    known = [v for row in values for v in row if v is not None]
    if not known or max(known) >= (1.0 + LEAST_SPAN) * min(known):
        return {}
    return {"zmin": rounded(min(known)), "zmax": rounded((1.0 + LEAST_SPAN) * min(known))}


def _text(cell: Cell | None, value: float | None, unit: str) -> str:
    if cell is None:
        return ""
    mark = cap_mark(cell)
    return f"<b>{amount(value, unit)}</b>" + (f'<br><span style="font-size:10px">{mark}</span>' if mark else "")


def cap_mark(cell: Cell) -> str:
    """What became of the cap, where there was one and it is known."""
    if cell.failed_calls:
        return "calls failed"
    if cell.unmet_cap:
        return f"{cell.in_force_w:g} W in force"
    if cell.configuration.power_cap_w is None or cell.bound_fraction is None:
        return ""
    return "cap not bound" if cell.bound_fraction == 0.0 else f"bound {percent(cell.bound_fraction)}"


def _hover(cell: Cell | None, value: float | None, unit: str) -> str:
    if cell is None:
        return ""
    spread = cell.mean(lambda s: s.gpu_j) if unit == "J" else cell.mean(lambda s: s.figures.workflow_p50_s)
    lines = [f"<b>{cell.label}</b>", amount(value, unit)]
    if spread is not None and spread.interval is not None:
        low, high = amount(spread.interval.low, unit), amount(spread.interval.high, unit)
        lines.append(f"95 % interval {low} … {high}, {spread.count} trials")
    if cap_mark(cell):
        lines.append(cap_mark(cell))
    return "<br>".join(lines)

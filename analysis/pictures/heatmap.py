"""A figure over two knobs, for files; the page draws its own over any two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import Any, Final

from rejoule.analysis.pictures.palette import heat
from rejoule.analysis.pictures.picture import Picture
from rejoule.analysis.pictures.svg import Markup, drawing, element, picked, words
from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.facts import cap_mark
from rejoule.analysis.summary.naming import describe, label, turned
from rejoule.analysis.summary.units import amount
from rejoule.traces.clock_curve import marks_note
from rejoule.traces.run import knobs

LEFT: Final = 130
CELL_W: Final = 104
CELL_H: Final = 54
TOP: Final = 34
LEAST_SPAN: Final = 0.1
"""The shades span at least this share of the least value: values that hardly differ look alike."""

FIGURES: Final[Sequence[tuple[str, str, str, Callable[[Cell], float | None]]]] = (
    ("energy", "Energy", "J", lambda c: c.energy_j),
    ("latency", "Median workflow latency", "s", lambda c: c.latency_s),
)


def heatmaps(workload: Workload) -> list[Picture]:
    """Energy and latency over the first two knobs that vary, once for each setting of the others."""
    names = turned(c.configuration for c in workload.cells)
    across = "max_num_seqs" if "max_num_seqs" in names else next(iter(names), None)
    down = next((n for n in ("power_cap_w", *names) if n in names and n != across), None)
    if across is None or down is None:
        return []
    rest = tuple(n for n in names if n not in (across, down))
    facets = dict.fromkeys(describe(c.configuration, rest) for c in workload.cells)
    found = []
    for i, facet in enumerate(facets):
        cells = [c for c in workload.cells if describe(c.configuration, rest) == facet]
        for key, title, unit, value in FIGURES:
            if len(cells) > 1 and any(value(c) is not None for c in cells):
                where = f", {facet}" if facet else ""
                svg = _map(cells, (across, down), value, unit, title)
                note = f"{label(across)} across, {label(down)} down; means over trials; the least is framed"
                note = "; ".join(filter(None, (note, marks_note(c.trials[0].run for c in cells))))
                found.append(Picture(f"{key}-{i}" if len(facets) > 1 else key, title + where, note, svg))
    return found


def shade(value: float, known: Sequence[float]) -> float:
    """From 0, the least, to 1: by logarithms where values differ much."""
    low, high = min(known), max(max(known), (1.0 + LEAST_SPAN) * min(known))
    if low > 0.0 and high >= 3.0 * low:
        low, high, value = log(low), log(high), log(value)
    return (value - low) / (high - low) if high > low else 0.0


def _map(
    cells: Sequence[Cell],
    over: tuple[str, str],
    value: Callable[[Cell], float | None],
    unit: str,
    title: str,
) -> Markup:
    place = {tuple(knobs(c.configuration).get(n) for n in over): c for c in cells}
    columns, rows = (list(dict.fromkeys(key[i] for key in place)) for i in (0, 1))
    known = [v for v in map(value, cells) if v is not None]
    parts: list[Markup] = []
    for i, column in enumerate(columns):
        x = LEFT + CELL_W * (i + 0.5)
        parts.append(words(_word(cells, over[0], column), x, TOP - 12, text_anchor="middle"))
    for j, row in enumerate(rows):
        y = TOP + CELL_H * j
        parts.append(words(_word(cells, over[1], row), LEFT - 12, y + 32, text_anchor="end"))
        for i, column in enumerate(columns):
            cell = place.get((column, row))
            v = None if cell is None else value(cell)
            if cell is None or v is None:
                continue
            parts.append(_cell(cell, v, amount(v, unit), known, LEFT + CELL_W * i, y))
    return drawing(LEFT + CELL_W * len(columns) + 12, TOP + CELL_H * len(rows) + 12, title, *parts)


def _cell(cell: Cell, value: float, text: str, known: Sequence[float], x: float, y: float) -> Markup:
    share, least = shade(value, known), value == min(known) and len(known) > 1
    ink = "var(--ink)"
    mark = cap_mark(cell)
    box = element(
        "rect",
        x=x + 2,
        y=y + 2,
        width=CELL_W - 4,
        height=CELL_H - 4,
        rx=6,
        fill=heat(share),
        stroke="var(--ink)" if least else None,
        stroke_width=2 if least else None,
    )
    line = y + (25 if mark else 32)
    said = [words(text, x + CELL_W / 2, line, text_anchor="middle", font_weight=600, fill=ink)]
    if mark:
        said.append(words(mark, x + CELL_W / 2, y + 42, text_anchor="middle", font_size=10.5, fill=ink))
    return picked(Markup(box + "".join(said)), cell.label, [cell.label, text, *([mark] if mark else [])])


def _word(cells: Sequence[Cell], knob: str, value: Any) -> str:
    held = next(c.configuration for c in cells if knobs(c.configuration).get(knob) == value)
    return describe(held, (knob,))

"""Configurations as points of two figures, with the front that none of them beats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rejoule.analysis.pictures.axes import across, upright
from rejoule.analysis.pictures.palette import ramp
from rejoule.analysis.pictures.scale import Scale, fitted
from rejoule.analysis.pictures.svg import Markup, drawing, element, picked, words
from rejoule.analysis.summary.cells import Cell, axis
from rejoule.analysis.summary.naming import describe

Place = Callable[[Cell], tuple[float, float]]
"""Where a configuration lies, in the units of the axes."""
WIDTH: Final = 560
HEIGHT: Final = 400
LEFT: Final = 64
TOP: Final = 44
BOTTOM: Final = HEIGHT - 74
LETTER: Final = 7.4
LINE: Final = 18
"""Room for a name: of each letter, and from one to the next above it."""


def scatter(
    shown: Sequence[Cell],
    front: Sequence[Cell],
    place: Place,
    said: Callable[[Cell], Sequence[str]],
    names: tuple[str, str],
    named: Mapping[str, Cell] | None = None,
) -> Markup:
    """A dotted line through the front, points coloured by batch size, larger on the front, a few of them ``named``."""
    xs, ys = zip(*map(place, shown), strict=True)
    x, y = fitted(xs, LEFT, WIDTH - 16, 0.09), fitted(ys, BOTTOM, TOP, 0.12)
    line = " ".join(f"{x(a):g},{y(b):g}" for a, b in map(place, front))
    batches = axis(shown, "max_num_seqs")
    colour = {batch: ramp(i, len(batches)) for i, batch in enumerate(batches)}
    first = {batch: next(c for c in shown if c.configuration.max_num_seqs == batch) for batch in batches}
    key = {describe(first[batch].configuration, ("max_num_seqs",)): colour[batch] for batch in batches}
    return drawing(
        WIDTH,
        HEIGHT,
        f"{names[1]} against {names[0]}",
        *across(x, TOP, BOTTOM, names[0]),
        *upright(y, LEFT, WIDTH - 16, names[1]),
        element("polyline", points=line, fill="none", stroke="var(--ink-3)", stroke_width=1.5, stroke_dasharray="2 4"),
        *(_point(c, x, y, place, c in front, colour[c.configuration.max_num_seqs], said(c)) for c in shown),
        *_labels(named or {}, x, y, place),
        *legend(key, LEFT, HEIGHT - 10, WIDTH),
    )


def _point(cell: Cell, x: Scale, y: Scale, place: Place, best: bool, colour: str, said: Sequence[str]) -> Markup:
    a, b = place(cell)
    dot = element(
        "circle",
        cx=x(a),
        cy=y(b),
        r=7 if best else 5,
        fill=colour,
        fill_opacity=None if best else 0.6,
        stroke="var(--surface)",
        stroke_width=1.5,
    )
    return picked(dot, cell.label, said)


def _labels(named: Mapping[str, Cell], x: Scale, y: Scale, place: Place) -> list[Markup]:
    """Above their points, each with a line to it; none on another.

    From the right: names reach to the right, so that the line to a name higher up passes left of those below it.
    """
    found: list[Markup] = []
    taken: list[tuple[float, float, float]] = []
    at = sorted(((x(place(cell)[0]), y(place(cell)[1]), name) for name, cell in named.items()), reverse=True)
    for a, b, name in at:
        right, long = a < WIDTH - 130, LETTER * len(name)
        start, end = (a - 3, a - 3 + long) if right else (a + 3 - long, a + 3)
        top = b - 20
        for _, _, other in sorted((t for t in taken if t[0] < end and start < t[1]), key=lambda t: -t[2]):
            if abs(other - top) < LINE:
                top = other - LINE
        taken.append((start, end, top))
        found.append(element("line", x1=a, x2=a, y1=b - 8, y2=top + 3, stroke="var(--ink-3)"))
        beside = {"text_anchor": "start" if right else "end", "font_size": 12, "font_weight": 600, "fill": "var(--ink)"}
        found.append(words(name, a - 3 if right else a + 3, top, **beside))
    return found


def legend(key: Mapping[str, str], left: float, y: float, width: float) -> list[Markup]:
    """One line of colours with their names; the ends of a long one."""
    room = (width - left) / max(1, len(key))
    if room < 74:
        kept = list(key)[:: max(1, -(-len(key) * 74 // int(width - left)))]
        key = {name: key[name] for name in kept}
        room = (width - left) / len(key)
    room = min(room, 120.0)
    return [
        part
        for i, (name, colour) in enumerate(key.items())
        for part in (
            element("circle", cx=left + 5 + i * room, cy=y - 4, r=5, fill=colour),
            words(name, left + 15 + i * room, y, font_size=12),
        )
    ]

"""Grid, ticks and names of two axes."""

from __future__ import annotations

from rejoule.analysis.pictures.scale import Scale, mark
from rejoule.analysis.pictures.svg import Markup, element, words


def across(scale: Scale, top: float, bottom: float, name: str) -> list[Markup]:
    """The horizontal axis, with its lines from top to bottom."""
    marks: list[Markup] = []
    for tick in scale.ticks:
        x = scale(tick)
        marks.append(element("line", x1=x, x2=x, y1=top, y2=bottom, stroke="var(--grid)"))
        marks.append(words(mark(tick), x, bottom + 18, text_anchor="middle", font_size=12, fill="var(--ink-3)"))
    middle = (scale.start + scale.end) / 2
    return [*marks, words(name, middle, bottom + 40, text_anchor="middle")]


def upright(scale: Scale, left: float, right: float, name: str) -> list[Markup]:
    """The vertical axis, with its lines from left to right; its name stands above it."""
    marks: list[Markup] = []
    for tick in scale.ticks:
        y = scale(tick)
        marks.append(element("line", x1=left, x2=right, y1=y, y2=y, stroke="var(--grid)"))
        marks.append(words(mark(tick), left - 8, y + 4, text_anchor="end", font_size=12, fill="var(--ink-3)"))
    return [*marks, words(name, 4, min(scale.start, scale.end) - 14)]

"""From one configuration's joules to another's, cause by cause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rejoule.analysis.pictures.axes import across
from rejoule.analysis.pictures.picture import Picture
from rejoule.analysis.pictures.scale import from_zero, joule_scale
from rejoule.analysis.pictures.svg import Markup, drawing, element, picked, words
from rejoule.analysis.summary.units import amount, percent, signed

WIDTH: Final = 1120
LEFT: Final = 400
"""Most room for names, which have as much as the longest takes."""
RIGHT: Final = 130
"""Room for the joules beside the longest bar."""
LETTER: Final = 7.6
ROW: Final = 30
TOP: Final = 12

Bar = tuple[str, float, float | None]
"""A cause, its joules (B − A), and half of their 95 % interval."""


def waterfall(a: str, a_j: float, b: str, b_j: float, causes: Sequence[Bar]) -> Picture:
    """A bar for A, one for each cause from where the last one ended, and one for B; ``causes`` add up to B − A."""
    levels = [a_j]
    for _, joules, _ in causes:
        levels.append(levels[-1] + joules)
    factor, unit = joule_scale(max(*levels, b_j))
    left = min(LEFT, 30.0 + LETTER * max(len(name) for name in (a, b, *(name for name, _, _ in causes))))
    x = from_zero(max(*levels, b_j) / factor, left, WIDTH - RIGHT)
    rows = [_bar(a, 0.0, a_j, "var(--ink-3)", 0, x, factor, amount(a_j, "J"), [a, amount(a_j, "J")])]
    for i, (name, joules, half) in enumerate(causes, 1):
        colour = "var(--good)" if joules < 0.0 else "var(--bad)"
        width = "" if half is None else f" ±{amount(half, 'J')}"
        said = [name, f"{signed(joules, 'J')}{width}", f"{percent(abs(joules) / a_j)} of {a}" if a_j else ""]
        rows.append(_bar(name, levels[i - 1], levels[i], colour, i, x, factor, f"{signed(joules, 'J')}{width}", said))
    last = len(causes) + 1
    rows.append(_bar(b, 0.0, b_j, "var(--ink-3)", last, x, factor, amount(b_j, "J"), [b, amount(b_j, "J")]))
    bottom = TOP + ROW * (last + 1)
    label = f"from {a} to {b}, cause by cause"
    svg = drawing(WIDTH, bottom + 54, label, *across(x, TOP, bottom, f"GPU energy ({unit})"), *rows)
    return Picture("causes", f"From {a} to {b}", "each bar begins where the one above it ended", svg)


def _bar(
    name: str, start_j: float, end_j: float, colour: str, row: int, x: object, factor: float, told: str, said: list[str]
) -> Markup:
    assert callable(x)
    y = TOP + ROW * row
    left, right = sorted((float(x(max(0.0, start_j) / factor)), float(x(max(0.0, end_j) / factor))))
    shape = element("rect", x=left, y=y + 4, width=max(1.0, right - left), height=ROW - 8, fill=colour)
    return Markup(
        words(name, float(x(0.0)) - 10, y + 19, text_anchor="end", fill="var(--ink)")
        + picked(shape, None, [line for line in said if line])
        + words(told, right + 6, y + 19, font_size=12)
    )

"""Configurations as points of two figures, with the front that none of them beats."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rejoule.analysis.report.figures import Figure, ramp, rounded
from rejoule.analysis.summary.cells import Cell, axis
from rejoule.analysis.summary.naming import describe

Place = Callable[[Cell], tuple[float, float]]
"""Where a configuration lies."""


def front_and_points(
    shown: Sequence[Cell], front: Sequence[Cell], place: Place, hover: Callable[[Cell], str]
) -> list[Figure]:
    """A dotted line through the front, and points coloured by batch size, which are larger on it."""
    batches = axis(shown, "max_num_seqs")
    points = [
        _points([c for c in shown if c.configuration.max_num_seqs == batch], ramp(i, len(batches)), front, place, hover)
        for i, batch in enumerate(batches)
    ]
    line = {
        "type": "scatter",
        "mode": "lines",
        "name": "front",
        **places(front, place),
        "line": {"color": "var(--ink-3)", "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }
    return [line, *points]


def _points(
    cells: Sequence[Cell], colour: str, front: Sequence[Cell], place: Place, hover: Callable[[Cell], str]
) -> Figure:
    on_front = [cell in front for cell in cells]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": describe(cells[0].configuration, ("max_num_seqs",)),
        **places(cells, place),
        "customdata": [c.label for c in cells],
        "hovertext": [hover(c) for c in cells],
        "hoverinfo": "text",
        "marker": {
            "color": colour,
            "size": [13 if best else 9 for best in on_front],
            "opacity": [1.0 if best else 0.7 for best in on_front],
            "line": {"color": "var(--surface)", "width": 1.5},
        },
    }


def places(cells: Sequence[Cell], place: Place) -> dict[str, list[float]]:
    """Coordinates of points, short enough for the page."""
    found = [place(cell) for cell in cells]
    return {"x": [rounded(x) for x, _ in found], "y": [rounded(y) for _, y in found]}

"""Points of two figures, a few of them named."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from tests.analysis import builders

from rejoule.analysis.pictures.scatter import LETTER, LINE, scatter
from rejoule.analysis.summary.cells import gather

TRACE = {"agentic": builders.trace(2)}
CELLS = gather(builders.grid(TRACE, [1, 4, 16], [None]), TRACE)[0].cells
NAMES = ("fastest", "best trade-off", "least energy")


@given(st.lists(st.tuples(st.floats(1.0, 20.0), st.floats(1.0, 20.0)), min_size=3, max_size=3))
def test_no_name_stands_on_another(places: list[tuple[float, float]]) -> None:
    """However near each other the points are."""
    at = dict(zip((cell.label for cell in CELLS), places, strict=True))
    named = dict(zip(NAMES, CELLS, strict=True))
    drawn = ElementTree.fromstring(scatter(CELLS, CELLS, lambda c: at[c.label], lambda c: [], ("x", "y"), named))
    boxes = []
    for text in drawn.iter("{http://www.w3.org/2000/svg}text"):
        if text.text in NAMES:
            x, width = float(text.attrib["x"]), LETTER * len(text.text)
            left = x if text.attrib["text-anchor"] == "start" else x - width
            boxes.append((left, left + width, float(text.attrib["y"])))
    assert len(boxes) == 3
    for (a, b, y), (c, d, z) in combinations(boxes, 2):
        assert b <= c or d <= a or abs(y - z) >= LINE - 0.1

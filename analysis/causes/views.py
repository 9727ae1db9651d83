"""The whole of a comparison, and its nodes and agents one by one, as rows of joules by cause."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum
from typing import Final, Literal

import numpy as np

from rejoule.analysis.attribution.nnls import Array
from rejoule.analysis.causes.split import CAUSES, CauseName, Joules, Line
from rejoule.analysis.summary.lines import line as line_of

Part = Literal["whole", "node", "agent"]
View = tuple[Part, str]
"""What is looked at, and the line of it: those that no call owes are nodes and agents, too."""

PARTS: Final[tuple[Part, ...]] = ("node", "agent")
WHOLE: Final[View] = ("whole", "")


def name_of(part: Part, line: Line) -> str:
    """The line of a part that this one belongs to."""
    if part == "whole":
        return ""
    return line if isinstance(line, str) else line_of(line[0 if part == "node" else 1])


def views(pairs: Iterable[Joules]) -> tuple[View, ...]:
    """The whole first, then every node, then every agent where there are several."""
    lines = sorted({line for each in pairs for line, _ in each}, key=str)
    several = len({line[1] for line in lines if isinstance(line, tuple)}) > 1
    parts = PARTS if several else PARTS[:1]
    return (WHOLE, *dict.fromkeys((part, name_of(part, line)) for part in parts for line in lines))


def held_by(cells: Joules, rows: Iterable[View]) -> tuple[View, ...]:
    """Those that some of these cells belong to."""
    return tuple(view for view in rows if any(name_of(view[0], line) == view[1] for line, _ in cells))


def joules_of(cells: Joules, view: View, causes: Sequence[CauseName] = CAUSES) -> float:
    """Of one view, for one cause or for several together."""
    part, name = view
    return fsum(j for (line, cause), j in cells.items() if cause in causes and name_of(part, line) == name)


def table(cells: Joules, rows: Sequence[View]) -> Array:
    """Joules by view and cause."""
    place = {view: i for i, view in enumerate(rows)}
    found = np.zeros((len(rows), len(CAUSES)))
    parts = list(dict.fromkeys(part for part, _ in rows))
    for (line, cause), joules in cells.items():
        for part in parts:
            found[place[part, name_of(part, line)], CAUSES.index(cause)] += joules
    return found


def mean(pairs: Sequence[Joules]) -> Joules:
    keys = dict.fromkeys(key for each in pairs for key in each)
    return {key: fsum(each.get(key, 0.0) for each in pairs) / len(pairs) for key in keys}

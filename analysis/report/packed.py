"""One run in time for the page's canvas: a column a figure, packed, so that 100,000 calls stay light.

Columns of four bytes each, little-endian, one after another, compressed by zlib, in base64; `timeline.js` unpacks
them when the picture comes into view.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from rejoule.analysis.pictures.batch import batch_line
from rejoule.analysis.pictures.lanes import Bar, bars
from rejoule.analysis.pictures.power import power_line
from rejoule.analysis.summary.summary import Summary
from rejoule.analysis.summary.units import rounded

CALL, FAILED, TOOL = 0, 1, 2
COLUMNS: Final = (
    ("start", "f4"),
    ("begun", "f4"),
    ("first", "f4"),
    ("end", "f4"),
    ("joules", "f4"),
    ("lane", "u4"),
    ("workflow", "u4"),
    ("node", "u4"),
    ("prompt", "i4"),
    ("cached", "i4"),
    ("output", "i4"),
    ("kind", "u4"),
)
"""Counts that are not known are −1, such joules are not a number."""


def packed(summary: Summary, label: str) -> tuple[dict[str, Any], str]:
    """What is said of the run, and its columns."""
    run, found = summary.run, bars(summary)
    workflows, nodes = _numbered([b.workflow for b in found]), _numbered([b.node for b in found])
    values: dict[str, list[float]] = {
        "start": [b.start_s for b in found],
        "begun": [b.begun_s for b in found],
        "first": [b.first_s for b in found],
        "end": [b.end_s for b in found],
        "joules": [float("nan") if b.joules is None else b.joules for b in found],
        "lane": [b.lane for b in found],
        "workflow": [workflows[b.workflow] for b in found],
        "node": [nodes[b.node] for b in found],
        **{name: [_count(b, f"{name}_tokens") for b in found] for name in ("prompt", "cached", "output")},
        "kind": [TOOL if b.call is None else FAILED if b.call.error is not None else CALL for b in found],
    }
    raw = b"".join(np.array(values[name], dtype=f"<{kind}").tobytes() for name, kind in COLUMNS)
    power, batch = power_line(run), batch_line(run)
    said = {
        "label": label,
        "count": len(found),
        "columns": COLUMNS,
        "lanes": 1 + max((b.lane for b in found), default=0),
        "end": rounded(run.makespan_s, 7),
        "nodes": list(nodes),
        "workflows": list(workflows),
        "power": None if power is None else asdict(power) | {"cap": run.power_cap.in_force_w},
        "batch": None if batch is None else asdict(batch),
        "watched": run.steps is not None,
    }
    return said, base64.b64encode(zlib.compress(raw, 6)).decode()


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def _count(bar: Bar, name: str) -> int:
    found = None if bar.call is None else getattr(bar.call, name)
    return -1 if found is None else int(found)

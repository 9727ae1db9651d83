"""Figures over knobs, for the heatmap whose two knobs the reader chooses."""

from __future__ import annotations

from typing import Any, Final

from rejoule.analysis.summary.cells import Cell, Workload
from rejoule.analysis.summary.facts import cap_mark
from rejoule.analysis.summary.naming import describe, label, turned
from rejoule.analysis.summary.summary import Metric
from rejoule.analysis.summary.units import UNKNOWN, amount, rounded
from rejoule.analysis.summary.words import BY_NAME, WORDS
from rejoule.traces.run import knobs

FIRST: Final = ("GPU energy", "workflow latency p50")
"""Figures of the two maps that a reader sees first."""


def map_data(workload: Workload) -> dict[str, Any] | None:
    """Knobs with their settings in order, where each configuration lies among them, and its figures; ``None`` where
    nothing was varied."""
    cells = workload.cells
    names = _ordered(turned(c.configuration for c in cells))
    if len(cells) < 2 or not names:
        return None
    settings = {n: list(dict.fromkeys(_key(c, n) for c in sorted(cells, key=lambda c: _order(c, n)))) for n in names}
    said = {n: {_key(c, n): describe(c.configuration, (n,)) or "none" for c in cells} for n in names}
    return {
        "knobs": [{"label": label(n), "values": [said[n][key] for key in settings[n]]} for n in names],
        "at": [[settings[n].index(_key(c, n)) for n in names] for c in cells],
        "cells": [c.label for c in cells],
        "marks": [cap_mark(c) for c in cells],
        "figures": [found for name in WORDS.values() if (found := _figure(BY_NAME[name], cells)) is not None],
    }


def _ordered(names: tuple[str, ...]) -> list[str]:
    """Batch size and cap first: they are what most matrices span."""
    lead = [n for n in ("max_num_seqs", "power_cap_w") if n in names]
    return [*lead, *(n for n in names if n not in lead)]


def _key(cell: Cell, name: str) -> str:
    return repr(knobs(cell.configuration).get(name))


def _order(cell: Cell, name: str) -> tuple[int, float, str]:
    """Numbers by size, then words, then what was not set."""
    value = knobs(cell.configuration).get(name)
    if value is None:
        return 2, 0.0, ""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def _figure(metric: Metric, cells: tuple[Cell, ...]) -> dict[str, Any] | None:
    means = [cell.mean(metric.value) for cell in cells]
    if all(found is None for found in means):
        return None
    said = []
    for found in means:
        words = UNKNOWN if found is None else amount(found.value, metric.unit)
        if found is not None and found.interval is not None:
            low, high = (amount(end, metric.unit) for end in (found.interval.low, found.interval.high))
            words += f"\n95 % interval {low} … {high}, {found.count} trials"
        said.append(words)
    return {
        "name": metric.name,
        "more": metric.more_is_better,
        "values": [None if found is None else rounded(found.value) for found in means],
        "words": said,
    }

"""What the page's Plotly figures have in common.

Colours are names of the style sheet's variables; the page resolves them, so that one figure serves light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any, overload

Figure = dict[str, Any]

SERIES = tuple(f"var(--series-{i})" for i in range(8))
HEAT = [[i / 4, f"var(--heat-{i})"] for i in range(5)]
FONT = 'Inter, ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'


def figure(data: Sequence[Figure], height: int, **layout: Any) -> Figure:
    base: Figure = {
        "height": height,
        "margin": {"l": 64, "r": 16, "t": 12, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12, "color": "var(--ink-2)"},
        "hoverlabel": {
            "bgcolor": "var(--raised)",
            "bordercolor": "var(--line)",
            "font": {"family": FONT, "size": 12, "color": "var(--ink)"},
            "align": "left",
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
    }
    return {"data": list(data), "layout": base | layout}


def axis(title: str = "", **options: Any) -> Figure:
    return {
        "title": {"text": title, "font": {"size": 12, "color": "var(--ink-3)"}, "standoff": 10},
        "gridcolor": "var(--grid)",
        "linecolor": "var(--line)",
        "zeroline": False,
        "automargin": True,
        "ticklabelstandoff": 4,
    } | options


@overload
def rounded(value: float, significant: int = 5) -> float: ...
@overload
def rounded(value: float | None, significant: int = 5) -> float | None: ...
def rounded(value: float | None, significant: int = 5) -> float | None:
    """Short enough to keep the page small, long enough not to be seen."""
    return None if value is None else float(f"{value:.{significant}g}")


def span(values: Sequence[float], room: float) -> Figure:
    """A range with room for names, logarithmic where the values differ much."""
    low, high = min(values), max(values)
    if low <= 0.0 or high <= 4.0 * low:
        spare = room * (high - low) or 0.1 * high or 1.0
        return {"range": [low - spare, high + spare]}
    ends = log10(low), log10(high)
    spare = room * (ends[1] - ends[0])
    exponents = range(floor(ends[0]) - 1, ceil(ends[1]) + 1)
    ticks = [lead * 10.0**exponent for exponent in exponents for lead in (1, 2, 5)]
    return {
        "type": "log",
        "range": [ends[0] - spare, ends[1] + spare],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def brief(name: str, most: int = 28) -> str:
    """A name's end, where it is too long for a legend."""
    return name if len(name) <= most else "…" + name[1 - most :]


def ramp(index: int, count: int) -> str:
    """A colour for the index-th of some ordered values."""
    return f"var(--ramp-{round(5 * index / max(1, count - 1)) if count > 1 else 3})"


def joule_scale(most: float | None) -> tuple[float, str]:
    """What to divide joules by for an axis that reaches this far, and the unit's name."""
    return (1e3, "kJ") if most is not None and most >= 2e3 else (1.0, "J")

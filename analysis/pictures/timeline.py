"""One run in time as a still picture: lanes of calls, the engine's batch, power and clock, shaded where a cap bound."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from rejoule.analysis.pictures.axes import across
from rejoule.analysis.pictures.batch import batch_line
from rejoule.analysis.pictures.lanes import PHASES, bars
from rejoule.analysis.pictures.picture import Picture
from rejoule.analysis.pictures.power import power_line
from rejoule.analysis.pictures.scale import Scale, from_zero, mark
from rejoule.analysis.pictures.scatter import legend
from rejoule.analysis.pictures.svg import Markup, drawing, element, words
from rejoule.analysis.summary.summary import Summary

MOST_BARS: Final = 4000
"""Calls and tool calls drawn at most, first come first; the page's own picture has all."""
WIDTH: Final = 1120
LEFT: Final = 64
TOP: Final = 26


def timeline(summary: Summary, label: str) -> Picture:
    """A trial of the configuration that is called ``label``."""
    run, everything = summary.run, bars(summary)
    # By time, not by lane: what is left out is then a stretch at the end.
    shown = sorted(everything, key=lambda b: b.start_s)[:MOST_BARS]
    x = from_zero(run.makespan_s, LEFT, WIDTH - 12)
    lanes = 1 + max((bar.lane for bar in shown), default=0)
    room = min(480.0, max(120.0, 12.0 * lanes))
    deep = room / lanes
    marks = [
        element(
            "rect", x=x(a), y=TOP + deep * bar.lane, width=max(0.3, x(b) - x(a)), height=0.85 * deep, fill=f"var(--{p})"
        )
        for bar in shown
        for p, a, b in bar.phases
    ]
    y = TOP + room + 26
    batch, power = batch_line(run), power_line(run)
    if batch is not None:
        marks += _track(x, batch.times_s, batch.calls, y, 56, "calls in a step", "var(--decode)")
        y += 56 + 30
    if power is not None:
        for a, b, bound in zip(power.times_s, power.times_s[1:], power.bound, strict=False):
            if bound:
                shade = {"x": x(a), "y": y, "width": x(b) - x(a), "height": 110}
                marks.append(element("rect", **shade, fill="var(--bound)", fill_opacity=round(bound, 2)))
        marks += _track(x, power.times_s, power.watts, y, 110, "GPU power (W)", "var(--power)")
        y += 110 + 30
        if power.clock_mhz:
            marks += _track(x, power.times_s, power.clock_mhz, y, 56, "SM clock (MHz)", "var(--ink-3)")
            y += 56 + 30
    bottom = y - 18
    key = {phase: f"var(--{phase})" for phase in PHASES} | ({"cap bound": "var(--bound)"} if _bound(power) else {})
    svg = drawing(
        WIDTH,
        bottom + 80,
        "calls in time",
        *across(x, TOP, bottom, "seconds"),
        words("workflows", LEFT, TOP - 10),
        *marks,
        *legend(key, LEFT, bottom + 70, WIDTH),
    )
    note = f"{label}, trial {run.trial}; each lane is one call of a workflow at a time"
    if len(everything) > len(shown):
        note += f"; the first {len(shown):,} of {len(everything):,} calls and tool calls are drawn"
    if power is None:
        note += "; no power over time is known"
    if run.steps is None:
        note += "; the engine was not watched from inside, so waiting is part of prefill"
    return Picture("timeline", "Calls in time" + ("" if power is None else ", and the power they drew"), note, svg)


def _bound(power: object) -> bool:
    return any(getattr(power, "bound", ()))


def _track(
    x: Scale,
    times: Sequence[float],
    values: Sequence[float | None],
    top: float,
    height: float,
    name: str,
    colour: str,
) -> list[Markup]:
    """A line of steps from zero; broken where nothing is known."""
    most = max((v for v in values if v is not None), default=0.0)
    y = from_zero(most, top + height, top)
    path, drawing_now = "", False
    for (a, b), value in zip(pairwise(times), values, strict=False):
        if value is None:
            drawing_now = False
            continue
        path += f"{'L' if drawing_now else 'M'}{x(a):g} {y(value):g}H{x(b):g}"
        drawing_now = True
    return [
        element("line", x1=LEFT, x2=WIDTH - 12, y1=top + height, y2=top + height, stroke="var(--line)"),
        words(name, LEFT, top - 8, font_size=12),
        words(mark(round(most)), LEFT - 8, top + 6, text_anchor="end", font_size=12, fill="var(--ink-3)"),
        element("path", d=path, fill="none", stroke=colour, stroke_width=1.4),
    ]

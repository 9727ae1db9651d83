"""One run in time: lanes of calls, with the GPU's power under them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

import numpy as np

from rejoule.analysis.report.figures import Figure, axis, figure, rounded
from rejoule.analysis.summary import Summary
from rejoule.analysis.units import amount, digits
from rejoule.traces.run import Run

MOST_BARS: Final = 1500
"""Calls and tool calls drawn at most, first come first; the page must stay light."""
MOST_POINTS: Final = 1500
"""Points of the power line at most."""
COLOURS: Final = {
    "queue": "var(--queue)",
    "prefill": "var(--prefill)",
    "decode": "var(--decode)",
    "tool": "var(--tool)",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of one lane."""

    phase: str
    workflow: str
    start_s: float
    end_s: float
    hover: str


def timeline(summary: Summary) -> Figure:
    run = summary.run
    pieces = sorted(_pieces(summary), key=lambda bars: (bars[0].start_s, bars[-1].end_s))
    lanes = _lanes(pieces[:MOST_BARS], run)
    count = 1 + max((lane for _, lane in lanes), default=0)
    times, watts = power_line(run)
    height = int(min(620, max(150, 13 * count)))
    below = 120 if watts else 0
    share = below / (height + below + 40)
    traces = [_phase(phase, lanes) for phase in COLOURS]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "GPU power",
            "x": times,
            "y": watts,
            "yaxis": "y2",
            "line": {"shape": "hv", "color": "var(--power)", "width": 1.5},
            "fill": "tozeroy",
            "fillcolor": "var(--power-fill)",
            "hovertemplate": "%{y:.0f} W at %{x:.2f} s<extra></extra>",
            "showlegend": False,
        }
    )
    bottom = axis("power (W)", domain=[0, share], rangemode="tozero", fixedrange=True, visible=bool(watts))
    top = axis(
        "workflows",
        domain=[share + 0.05 if watts else 0, 1],
        showgrid=False,
        showticklabels=False,
        autorange="reversed",
    )
    cap = run.power_cap.in_force_w
    line = {"color": "var(--ink-3)", "width": 1, "dash": "dash"}
    shapes = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": cap, "y1": cap, "line": line}]
    return figure(
        [trace for trace in traces if trace["x"]],
        height + below + 80,
        barmode="overlay",
        xaxis=axis("seconds", anchor="y2" if watts else "y", range=[0, rounded(run.makespan_s)]),
        yaxis=top,
        yaxis2=bottom,
        dragmode="zoom",
        hovermode="closest",
        shapes=shapes if cap is not None and max(watts, default=0.0) > 0.5 * cap else [],
    )


def shortened(summary: Summary) -> str:
    """What the picture leaves out, if anything."""
    count = len(summary.run.calls) + len(summary.run.tools)
    return f"the first {MOST_BARS} of {count} calls and tool calls" if count > MOST_BARS else ""


def power_line(run: Run) -> tuple[list[float], list[float]]:
    """Mean power by the engine's steps, or over equal stretches of time if there are too many."""
    steps = [s for s in run.steps or () if s.energy_j is not None and s.end_s > s.start_s]
    if not steps:
        return [], []
    edges = np.array([steps[0].start_s, *(s.end_s for s in steps)], dtype=np.float64)
    joules = np.array([0.0, *np.cumsum([s.energy_j or 0.0 for s in steps])], dtype=np.float64)
    if len(edges) > MOST_POINTS:
        even = np.linspace(edges[0], edges[-1], MOST_POINTS)
        joules, edges = np.interp(even, edges, joules), even
    watts = np.diff(joules) / np.diff(edges)
    return [rounded(float(t)) for t in edges], [rounded(float(w), 4) for w in (*watts, watts[-1])]


def _pieces(summary: Summary) -> Iterable[tuple[Bar, ...]]:
    """Calls, cut into phases, and tool calls."""
    run = summary.run
    admitted: dict[str, float] = {}
    for step in run.steps or ():
        for name, *_ in step.prefill:
            admitted.setdefault(name, step.start_s)
    joules = {} if summary.attribution is None else {c.call: c.energy for c in summary.attribution.calls}
    for call in run.calls:
        energy = joules.get(call.id)
        hover = f"<b>{call.node}</b> · {call.workflow}<br>{_tokens(call.prompt_tokens)} in, "
        hover += f"{_tokens(call.cached_tokens)} cached, {_tokens(call.output_tokens)} out<br>"
        hover += f"{amount(None if energy is None else energy.total_j, 'J')} · {amount(call.end_s - call.sent_s, 's')}"
        if call.error is not None:
            hover += "<br><b>failed</b>"
        begun = min(max(admitted.get(call.id, call.sent_s), call.sent_s), call.end_s)
        first = call.end_s if call.first_token_s is None else max(begun, call.first_token_s)
        cuts = (("queue", call.sent_s, begun), ("prefill", begun, first), ("decode", first, call.end_s))
        bars = tuple(Bar(phase, call.workflow, a, b, hover) for phase, a, b in cuts if b > a)
        if bars:
            yield bars
    for tool in run.tools:
        if tool.end_s > tool.start_s:
            hover = f"<b>{tool.name}</b> · {tool.workflow}<br>tool call · {amount(tool.end_s - tool.start_s, 's')}"
            yield (Bar("tool", tool.workflow, tool.start_s, tool.end_s, hover),)


def _tokens(count: int | None) -> str:
    return "–" if count is None else f"{count}"


def _lanes(pieces: list[tuple[Bar, ...]], run: Run) -> list[tuple[Bar, int]]:
    """Lanes in the order in which workflows arrive; a workflow has as many as it has calls at once."""
    placed: list[tuple[Bar, int]] = []
    offset = 0
    for workflow in sorted(run.workflows, key=lambda w: (w.arrival_s, w.id)):
        busy: list[tuple[float, int]] = []
        free: list[int] = []
        used = 0
        for bars in (p for p in pieces if p[0].workflow == workflow.id):
            while busy and busy[0][0] <= bars[0].start_s:
                heappush(free, heappop(busy)[1])
            if free:
                lane = heappop(free)
            else:
                lane, used = used, used + 1
            heappush(busy, (bars[-1].end_s, lane))
            placed.extend((bar, offset + lane) for bar in bars)
        offset += used
    return placed


def _phase(phase: str, lanes: list[tuple[Bar, int]]) -> Figure:
    found = [(bar, lane) for bar, lane in lanes if bar.phase == phase]
    hatch = {"shape": "/", "fillmode": "overlay", "fgcolor": "var(--surface)", "size": 6} if phase == "tool" else {}
    return {
        "type": "bar",
        "orientation": "h",
        "name": phase,
        "width": 0.84,
        "y": [lane for _, lane in found],
        "base": [rounded(bar.start_s, 6) for bar, _ in found],
        "x": [rounded(bar.end_s - bar.start_s) for bar, _ in found],
        "hovertext": [f"{bar.hover}<br>{phase} {digits(bar.end_s - bar.start_s)} s" for bar, _ in found],
        "hoverinfo": "text",
        "marker": {"color": COLOURS[phase], "line": {"width": 0}, "pattern": hatch},
    }

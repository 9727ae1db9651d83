"""One run in time: lanes of calls, with the GPU's power and clock under them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from rejoule.analysis.report.figures import Figure, axis, figure, rounded
from rejoule.analysis.report.power import PowerLine, power_line, power_traces
from rejoule.analysis.summary.summary import Summary
from rejoule.analysis.summary.units import amount, digits
from rejoule.traces.run import Run

MOST_BARS: Final = 1500
"""Calls and tool calls drawn at most, first come first; the page must stay light."""
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
    line = power_line(run)
    height = int(min(620, max(150, 13 * count)))
    below = 210 if line else 0
    share = below / (height + below + 40)
    traces = [_phase(phase, lanes) for phase in COLOURS]
    room: Figure = {}
    if line is not None:
        traces += power_traces(line)
        room = _room(line, share)
    top = axis(
        "workflows",
        domain=[share + 0.05 if line else 0, 1],
        showgrid=False,
        showticklabels=False,
        autorange="reversed",
    )
    cap = run.power_cap.in_force_w
    dashed = {"color": "var(--ink-3)", "width": 1, "dash": "dash"}
    shapes = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": cap, "y1": cap, "line": dashed}]
    return figure(
        [trace for trace in traces if trace["x"]],
        height + below + 80,
        barmode="overlay",
        xaxis=axis("seconds", anchor="y2" if line else "y", range=[0, rounded(run.makespan_s)]),
        yaxis=top,
        **room,
        dragmode="zoom",
        hovermode="closest",
        shapes=shapes if cap is not None and line is not None and max(line.watts) > 0.5 * cap else [],
    )


def _room(line: PowerLine, share: float) -> Figure:
    """Axes of the clock over those of power, below the lanes; the shade spans both."""
    clocks = [clock for clock in line.clock_mhz if clock is not None]
    power = 0.64 * share if clocks else share
    axes: Figure = {"yaxis2": axis("power (W)", domain=[0, power], rangemode="tozero", fixedrange=True)}
    if clocks:
        span = [0.94 * min(clocks), 1.03 * max(clocks)]
        axes["yaxis3"] = axis("MHz", domain=[power + 0.03, share], range=span, nticks=3, fixedrange=True)
    if any(line.bound):
        axes["yaxis4"] = axis(domain=[0, share], range=[0, 1], fixedrange=True, visible=False)
    return axes


def shortened(summary: Summary) -> str:
    """What the picture leaves out, if anything."""
    count = len(summary.run.calls) + len(summary.run.tools)
    return f"the first {MOST_BARS} of {count} calls and tool calls" if count > MOST_BARS else ""


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

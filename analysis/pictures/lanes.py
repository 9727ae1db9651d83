"""The calls and tool calls of a run as bars in lanes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Final

from rejoule.analysis.summary.summary import Summary
from rejoule.traces.run import CallResult, Run

PHASES: Final = ("queue", "prefill", "decode", "tool")
"""Also the names of their colours."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A call, cut into phases, or a tool call, which has but its two ends."""

    lane: int
    workflow: str
    node: str
    """Of a tool call, the tool's name."""
    start_s: float
    begun_s: float
    """When the engine began with it, as far as that is known."""
    first_s: float
    """First token."""
    end_s: float
    joules: float | None
    call: CallResult | None
    """``None`` for a tool call."""

    @property
    def phases(self) -> tuple[tuple[str, float, float], ...]:
        """Those that take time."""
        cuts: tuple[tuple[str, float, float], ...] = (("tool", self.start_s, self.end_s),)
        if self.call is not None:
            cuts = (
                ("queue", self.start_s, self.begun_s),
                ("prefill", self.begun_s, self.first_s),
                ("decode", self.first_s, self.end_s),
            )
        return tuple(cut for cut in cuts if cut[2] > cut[1])


def bars(summary: Summary) -> tuple[Bar, ...]:
    """By lane, and in time within each. Lanes are in the order in which workflows arrive; a workflow has as many as
    it has calls at once."""
    run = summary.run
    of: dict[str, list[Bar]] = defaultdict(list)
    for bar in _bars(summary):
        of[bar.workflow].append(bar)
    found: list[Bar] = []
    offset = 0
    for name in _arriving(run, of):
        lanes = _laned(of[name], offset)
        found += lanes
        offset = 1 + max((bar.lane for bar in lanes), default=offset - 1)
    return tuple(sorted(found, key=lambda bar: (bar.lane, bar.start_s)))


def _arriving(run: Run, known: Iterable[str]) -> list[str]:
    listed = [w.id for w in sorted(run.workflows, key=lambda w: (w.arrival_s, w.id))]
    return list(dict.fromkeys([*listed, *known]))


def _bars(summary: Summary) -> Iterable[Bar]:
    run = summary.run
    admitted: dict[str, float] = {}
    for step in run.steps or ():
        for name, *_ in step.prefill:
            admitted.setdefault(name, step.start_s)
    found = summary.attribution
    joules = {} if found is None or found.withheld else {c.call: c.energy.total_j for c in found.calls}
    for call in run.calls:
        begun = min(max(admitted.get(call.id, call.sent_s), call.sent_s), call.end_s)
        first = call.end_s if call.first_token_s is None else min(max(begun, call.first_token_s), call.end_s)
        if call.end_s > call.sent_s:
            yield Bar(0, call.workflow, call.node, call.sent_s, begun, first, call.end_s, joules.get(call.id), call)
    for tool in run.tools:
        if tool.end_s > tool.start_s:
            yield Bar(0, tool.workflow, tool.name, tool.start_s, tool.start_s, tool.end_s, tool.end_s, None, None)


def _laned(mine: list[Bar], offset: int) -> list[Bar]:
    busy: list[tuple[float, int]] = []
    free: list[int] = []
    placed, used = [], 0
    for bar in sorted(mine, key=lambda b: (b.start_s, b.end_s)):
        while busy and busy[0][0] <= bar.start_s:
            heappush(free, heappop(busy)[1])
        if free:
            lane = heappop(free)
        else:
            lane, used = used, used + 1
        heappush(busy, (bar.end_s, lane))
        placed.append(replace(bar, lane=offset + lane))
    return placed

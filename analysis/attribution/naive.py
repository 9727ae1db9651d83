"""The usual ways to split a GPU's joules among requests, to compare with.

None of them sees what an engine step costs: two follow the clock, two count tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from rejoule.analysis.attribution.nnls import Array
from rejoule.traces.run import CallResult, Run

Split = Callable[[Run], dict[str, float] | None]


def window(run: Run) -> dict[str, float] | None:
    """All that the GPU took while a call was in flight: calls that overlap count the same joules again."""
    times, joules = _energy_over_time(run)
    if times is None:
        return None
    return {c.id: float(np.interp(c.end_s, times, joules) - np.interp(c.sent_s, times, joules)) for c in run.calls}


def concurrency(run: Run) -> dict[str, float] | None:
    """At every moment, what the GPU takes is shared equally among the calls in flight."""
    times, joules = _energy_over_time(run)
    if times is None:
        return None
    edges = np.array(sorted({t for call in run.calls for t in (call.sent_s, call.end_s)}))
    if len(edges) < 2:
        return dict.fromkeys((call.id for call in run.calls), 0.0)
    starts = np.searchsorted(np.sort([c.sent_s for c in run.calls]), edges[:-1], side="right")
    ends = np.searchsorted(np.sort([c.end_s for c in run.calls]), edges[:-1], side="right")
    flying = starts - ends
    between = np.diff(np.interp(edges, times, joules))
    each = np.concatenate([[0.0], np.cumsum(np.where(flying > 0, between / np.maximum(flying, 1), 0.0))])
    return {c.id: float(np.interp(c.end_s, edges, each) - np.interp(c.sent_s, edges, each)) for c in run.calls}


def output_tokens(run: Run) -> dict[str, float] | None:
    """The total by output tokens, as "joules a token" of a whole benchmark implies."""
    return _by_tokens(run, lambda call: call.output_tokens)


def all_tokens(run: Run) -> dict[str, float] | None:
    """The total by prompt and output tokens, cached ones included."""

    def count(call: CallResult) -> int | None:
        if call.prompt_tokens is None or call.output_tokens is None:
            return None
        return call.prompt_tokens + call.output_tokens

    return _by_tokens(run, count)


NAIVE: Final[Mapping[str, Split]] = {
    "window": window,
    "concurrency": concurrency,
    "output tokens": output_tokens,
    "all tokens": all_tokens,
}


def _by_tokens(run: Run, count: Callable[[CallResult], int | None]) -> dict[str, float] | None:
    total_j = run.energy.gpu_j
    counts = {call.id: count(call) for call in run.calls}
    known = {call: tokens for call, tokens in counts.items() if tokens is not None}
    whole = sum(known.values())
    if total_j is None or len(known) < len(counts) or not whole:
        return None
    return {call: total_j * tokens / whole for call, tokens in known.items()}


def _energy_over_time(run: Run) -> tuple[Array | None, Array]:
    """Joules since the start, at times: from readings, or the steps' own energy, or evenly."""
    total_j = run.energy.gpu_j
    none = np.zeros(0)
    if total_j is None:
        return None, none
    steps = run.steps or ()
    if run.readings:
        times = [run.readings[0].start_s, *(r.end_s for r in run.readings)]
        parts = [r.energy_j for r in run.readings]
    elif steps and all(s.energy_j is not None for s in steps):
        times = [steps[0].start_s, *(s.end_s for s in steps)]
        parts = [s.energy_j or 0.0 for s in steps]
    else:
        times, parts = [0.0, run.makespan_s], [total_j]
    return np.array(times), np.concatenate([[0.0], np.cumsum(parts)])

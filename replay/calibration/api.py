"""How long a request is underway between client and scheduler: what a server costs outside of the engine's steps."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from rejoule.replay.calibration.least_squares import Parameter, least_squares
from rejoule.traces.run import Run

LEAST_CALLS: Final = 10
FEW: Final = 32
"""A server that streams to more requests is slower to take new ones."""
FULL: Final = 0.95
"""Of a step's budget: what is not in such a step may have waited for room in it."""


def api_delays_s(runs: Iterable[Run]) -> tuple[float, float] | None:
    """Seconds of each request, and of each of its prompt tokens; ``None`` if too few calls show them."""
    seen = [found for run in runs for found in _underway(run)]
    if len(seen) < LEAST_CALLS:
        return None
    tokens = np.array([n for n, _ in seen], dtype=np.float64)
    found = least_squares(
        lambda v: v["request"] + v["token"] * tokens,
        np.array([s for _, s in seen]),
        np.ones(len(seen)),
        [Parameter("request", 5e-3, 1e-6, 1.0), Parameter("token", 1e-6, 1e-9, 1e-3)],
        prior=5.0,
    )
    return found.values["request"], found.values["token"]


def _underway(run: Run) -> Iterator[tuple[int, float]]:
    """Prompt tokens and seconds underway of the calls that found the engine idle, so that they waited for nothing."""
    steps = run.steps or ()
    ends = [step.end_s for step in steps]
    began: dict[str, float] = {}
    prefilled: dict[str, float] = {}
    for step in steps:
        for name, _, _ in step.prefill:
            began.setdefault(name, step.start_s)
            prefilled[name] = step.end_s
    for call in run.calls:
        if call.id not in began or call.first_token_s is None or not call.prompt_tokens or call.error is not None:
            continue
        at = bisect_right(ends, call.sent_s)
        if at < len(steps) and steps[at].idle and steps[at].end_s >= began[call.id]:
            seconds = began[call.id] - call.sent_s + call.first_token_s - prefilled[call.id]
            if seconds > 0:
                yield call.prompt_tokens, seconds


def api_spacing_s(runs: Iterable[Run], delay_s: float) -> float | None:
    """Seconds between two requests of a burst as the engine gets them; ``None`` if too few calls show it.

    The time between two choices of the scheduler over the requests new in the later one, where more had been sent, at
    least ``delay_s`` before, but none waited for room.
    """
    seconds, calls = 0.0, 0
    for run in runs:
        for between_s, new in _handed_on(run, delay_s):
            seconds += between_s
            calls += new
    return seconds / calls if calls >= LEAST_CALLS else None


def _handed_on(run: Run, delay_s: float) -> Iterator[tuple[float, int]]:
    steps = run.steps or ()
    budget, seats = (run.engine.get(name) for name in ("max_num_batched_tokens", "max_num_seqs"))
    if not isinstance(budget, int) or not isinstance(seats, int):
        return
    begun: dict[str, int] = {}
    for at, step in enumerate(steps):
        for name, _, _ in step.prefill:
            begun.setdefault(name, at)
    sent = {call.id: call.sent_s + delay_s for call in run.calls if call.id in begun}
    new: dict[int, list[str]] = defaultdict(list)
    for name in sent:
        new[begun[name]].append(name)
    last_at = sorted(((begun[name], at_s) for name, at_s in sent.items()), reverse=True)
    earliest_later: dict[int, float] = {}
    least = float("inf")
    pending = iter(last_at)
    entry = next(pending, None)
    for at in range(len(steps) - 1, -1, -1):
        while entry is not None and entry[0] > at:
            least = min(least, entry[1])
            entry = next(pending, None)
        earliest_later[at] = least
    for at in range(3, len(steps)):
        # Asynchronously, a step is chosen when the output of the step before the last is out.
        since_s, until_s, step = steps[at - 3].end_s, steps[at - 2].end_s, steps[at]
        if any(each.idle or each.steps != 1 for each in steps[at - 3 : at + 1]) or earliest_later[at] > since_s:
            continue
        tokens = sum(count for _, count, _ in step.prefill) + len(step.decode)
        if len(step.decode) > FEW or tokens > FULL * budget or len(step.prefill) + len(step.decode) >= seats:
            continue
        if all(sent[name] <= since_s for name in new[at]):
            yield until_s - since_s, len(new[at])

"""How long a request is underway between client and scheduler: what a server costs outside of the engine's steps."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from rejoule.replay.calibration.least_squares import Parameter, least_squares
from rejoule.replay.sim.api import CROWD
from rejoule.traces.run import Run

LEAST_CALLS: Final = 10
RESTED_S: Final = 0.02
"""After an idle time as long, a server is slower than if it had only just answered."""


class Delays(NamedTuple):
    """Constants of ``Timing``."""

    api_per_request_s: float
    api_per_token_s: float
    api_crowd_s: float


class _Underway(NamedTuple):
    prompt_tokens: int
    others: int
    """Calls that were sent before it was there."""
    rested: bool
    seconds: float


def api_delays(runs: Iterable[Run]) -> Delays | None:
    """What a rested server takes; ``None`` if too few calls show it."""
    seen = [found for run in runs for found in _underway(run)]
    if len(seen) < LEAST_CALLS:
        return None
    tokens, others, rested, seconds = (np.array(column, dtype=np.float64) for column in zip(*seen, strict=True))
    found = least_squares(
        lambda v: v["request"] + v["token"] * tokens + v["crowd"] * others + v["rested"] * rested,
        seconds,
        np.ones(len(seen)),
        [
            Parameter("request", 5e-3, 1e-6, 1.0),
            Parameter("token", 1e-6, 1e-9, 1e-3),
            Parameter("crowd", 1e-4, 1e-9, 1e-1),
            Parameter("rested", 1e-3, 1e-9, 1e-1),
        ],
        prior=5.0,
    )
    values = found.values
    return Delays(values["request"] + (values["rested"] if rested.any() else 0.0), values["token"], values["crowd"])


def _underway(run: Run) -> Iterator[_Underway]:
    """Of the calls that found the engine idle, so that they waited for nothing."""
    steps = run.steps or ()
    ends = [step.end_s for step in steps]
    began: dict[str, float] = {}
    prefilled: dict[str, float] = {}
    for step in steps:
        for name, _, _ in step.prefill:
            began.setdefault(name, step.start_s)
            prefilled[name] = step.end_s
    sent = sorted(call.sent_s for call in run.calls)
    for call in run.calls:
        if call.id not in began or call.first_token_s is None or not call.prompt_tokens or call.error is not None:
            continue
        at, begun_s = bisect_right(ends, call.sent_s), began[call.id]
        if at < len(steps) and steps[at].idle and steps[at].end_s >= begun_s:
            idle_s = call.sent_s - steps[at].start_s
            others = bisect_right(sent, begun_s) - bisect_left(sent, steps[at].start_s) - 1
            seconds = begun_s - call.sent_s + call.first_token_s - prefilled[call.id]
            if seconds > 0 and others < CROWD:
                yield _Underway(call.prompt_tokens, others, idle_s > RESTED_S, seconds)

"""How long a request is underway between client and scheduler: what a server costs outside of the engine's steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import numpy as np

from rejoule.replay.calibration.least_squares import Parameter, least_squares
from rejoule.traces.run import Run

LEAST_CALLS = 10


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

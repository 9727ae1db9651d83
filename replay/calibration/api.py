"""How long requests and answers are underway: what a server costs outside of the engine's steps."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Final, NamedTuple

import numpy as np

from rejoule.replay.calibration.least_squares import Found, Parameter, Vector, least_squares
from rejoule.replay.sim.api import CROWD
from rejoule.traces.run import Run

LEAST_CALLS: Final = 10
RESTED_S: Final = 0.02
"""After an idle time as long, a server is slower than if it had only just answered."""
FEW_OUTPUTS: Final = 32
"""With more requests in a step a server may not keep up, and tokens wait for those of steps before."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Constants of ``Timing``, and the relative standard error of each."""

    values: Mapping[str, float]
    known: Mapping[str, float]


def unseen_note(base: str) -> str:
    """What a fit does not know where ``api_delays`` finds too little."""
    return f"too few calls found the engine idle: what the API server takes stays that of {base}"


class _In(NamedTuple):
    """A call that found the engine idle, so that it waited for nothing, and was the first that came out."""

    prompt_tokens: int
    others: int
    """Calls that were sent before it was there."""
    rested: bool
    seconds: float


class _Out(NamedTuple):
    """Tokens of a call on their way from a step to the client: its first, or its last."""

    outputs: int
    """Requests that have a token of the step."""
    prompt_tokens: int
    """Of the prompts whose first token it is."""
    seconds: float


def api_delays(runs: Iterable[Run]) -> Delays | None:
    """What a rested server takes; ``None`` if too few calls show it."""
    runs = tuple(runs)
    came = [found for run in runs for found in _underway(run)]
    went = [found for run in runs for found in _answered(run)]
    if len(came) < LEAST_CALLS or len(went) < LEAST_CALLS:
        return None
    tokens, others, rested, in_s = _columns(came)
    into = _fitted(
        in_s,
        lambda v: v["request"] + v["token"] * tokens + v["crowd"] * others + v["rested"] * rested,
        {"request": 3e-3, "token": 1e-6, "crowd": 1e-4, "rested": 1e-3},
    )
    outputs, echoed, out_s = _columns(went)
    out = _fitted(
        out_s,
        lambda v: v["answer"] + v["output"] * outputs + v["echoed"] * echoed,
        {"answer": 1e-3, "output": 1e-4, "echoed": 1e-6},
    )
    request_s, rested_s = into.values["request"], into.values["rested"] if rested.any() else 0.0
    each = {
        "api_per_token_s": (into, "token"),
        "api_crowd_s": (into, "crowd"),
        "api_answer_s": (out, "answer"),
        "api_per_output_s": (out, "output"),
        "api_per_echoed_token_s": (out, "echoed"),
    }
    rest = hypot(request_s * into.known["request"], rested_s * into.known["rested"]) / (request_s + rested_s)
    return Delays(
        {"api_per_request_s": request_s + rested_s} | {name: found.values[key] for name, (found, key) in each.items()},
        {"api_per_request_s": rest} | {name: found.known[key] for name, (found, key) in each.items()},
    )


def _columns(found: Sequence[Sequence[float]]) -> tuple[Vector, ...]:
    return tuple(np.array(column, dtype=np.float64) for column in zip(*found, strict=True))


def _fitted(seconds: Vector, formula: Callable[[Mapping[str, float]], Vector], starts: Mapping[str, float]) -> Found:
    parameters = [Parameter(name, start, 1e-9, 1.0) for name, start in starts.items()]
    return least_squares(formula, seconds, np.ones(len(seconds)), parameters, prior=5.0)


def _underway(run: Run) -> Iterator[_In]:
    steps = run.steps or ()
    ends = [step.end_s for step in steps]
    began: dict[str, float] = {}
    for step in steps:
        for name, _, _ in step.prefill:
            began.setdefault(name, step.start_s)
    sent = sorted(call.sent_s for call in run.calls)
    for call in run.calls:
        if call.id not in began or not call.prompt_tokens or call.error is not None:
            continue
        at, begun_s = bisect_right(ends, call.sent_s), began[call.id]
        if at < len(steps) and steps[at].idle and steps[at].end_s >= begun_s:
            idle_s = call.sent_s - steps[at].start_s
            others = bisect_right(sent, begun_s) - bisect_left(sent, steps[at].start_s) - 1
            if begun_s > call.sent_s and others < CROWD:
                yield _In(call.prompt_tokens, others, idle_s > RESTED_S, begun_s - call.sent_s)


def _answered(run: Run) -> Iterator[_Out]:
    """First tokens, and last ones of steps of their own."""
    steps = run.steps or ()
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for at, step in enumerate(steps):
        first.update((name, at) for name, _, _ in step.prefill)
        last.update((name, at) for name, _ in step.decode)
    prompts = {call.id: call.prompt_tokens or 0 for call in run.calls}
    complete = Counter(first.values())
    echoed: Counter[int] = Counter()
    for name, at in first.items():
        echoed[at] += prompts.get(name, 0)
    for call in run.calls:
        for found, told_s in ((first, call.first_token_s), (last, call.end_s)):
            at = found.get(call.id, -1)
            if at < 0 or told_s is None or call.error is not None:
                continue
            outputs = len(steps[at].decode) + complete[at]
            if told_s > steps[at].end_s and outputs <= FEW_OUTPUTS:
                yield _Out(outputs, echoed[at], told_s - steps[at].end_s)

"""What speaks against joules by call, node and phase, though the costs may fit well: pure, from the run itself.

Another process on the same GPU, or steps that were written down without what the cache held, fit as well as anything:
its power goes with time, as the steps' own does. What tells of them is outside the fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rejoule.analysis.attribution.costs import Costs
from rejoule.traces.run import Run

RESTLESS: Final = 0.15
"""Idle power within a run, or after it, against the one measured before it. On H200s 100 runs alone lay between −2 and
+4 % after it (docs/weights.md)."""

SURE: Final = 3.0
"""Standard errors by which idle power within the run has to differ."""

WANDERS: Final = 0.025
"""Power that comes and goes over seconds without any work, relative to the run's. Bursts of 60 W every other second or
so are 3 to 6 % of it; on H200s 96 runs of an 8B model alone lay below 1.4 %, and what a card's leakage does to a run
(``python -m benchmarks.judge``) below 2.2 %."""

MISCOUNTED: Final = 0.01
"""Prompt tokens that steps and calls may count apart, of all."""


def objection(run: Run, costs: Costs) -> str | None:
    """The first reason not to read joules by node, in words; ``None`` where there is none."""
    return next((reason for reason in _objections(run, costs)), None)


def _objections(run: Run, costs: Costs) -> Iterator[str]:
    yield from _gpus(run)
    yield from _company(run, costs)
    yield from _counts(run)


def _gpus(run: Run) -> Iterator[str]:
    gpus = 0 if run.conditions is None else len(run.conditions.gpus)
    if gpus > 1 and run.readings and not all(r.gpus_j for r in run.readings):
        yield f"{gpus} GPUs were read together, so that one without work would be charged to those of the other"


def _company(run: Run, costs: Costs) -> Iterator[str]:
    around, read_w = run.conditions, costs.read_idle_w
    known_w, error_w = costs.known_idle_w, costs.read_idle_error_w
    if known_w and read_w is not None and abs(read_w - known_w) > max(RESTLESS * known_w, SURE * error_w):
        yield (
            f"idle within the run the GPUs drew {read_w:.0f} W, around it {known_w:.0f} W: something else drew power "
            "on them"
        )
    before_w, after_w = (None, None) if around is None else (around.loaded_w, around.after_w)
    if before_w and after_w and after_w > (1.0 + RESTLESS) * before_w:
        yield (
            f"idle power rose from {before_w:.0f} W before the run to {after_w:.0f} W after it: something else drew "
            "power on the GPUs"
        )
    if costs.wander > WANDERS:
        yield (
            f"power came and went by {costs.wander:.0%} over seconds, whatever the engine did: something else drew "
            "power on the GPUs, or their clocks changed"
        )


def _counts(run: Run) -> Iterator[str]:
    """Prompt tokens computed by the steps and found in the cache by the calls are the prompts."""
    if run.steps is None or any(step.preempted for step in run.steps):
        return
    computed: dict[str, int] = {}
    for step in run.steps:
        for call, tokens, _ in step.prefill:
            computed[call] = computed.get(call, 0) + tokens
    known = [c for c in run.calls if c.id in computed and c.prompt_tokens is not None and c.cached_tokens is not None]
    said = sum((c.prompt_tokens or 0) - (c.cached_tokens or 0) for c in known)
    told = sum(computed[c.id] for c in known)
    if told - said > MISCOUNTED * sum(c.prompt_tokens or 0 for c in known):
        yield (
            f"the steps computed {told:,} prompt tokens, the calls say {said:,}: tokens from the cache were written "
            "down as computed"
        )

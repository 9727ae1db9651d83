"""The engine's steps in a run, from what the step tap wrote."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from time import monotonic, sleep

from rejoule.replay.vllm.plugin.tap import TapStep, read_tap, read_tap_header
from rejoule.traces.run import Step

FLUSH_S = 3.0
"""How long the tap may take to write its last steps: it does so when the engine is idle."""
SETTLED_S = 0.25
"""A tap that did not grow for so long is complete; its size is taken before it is read."""


def steps_between(tap: Path, start_s: float, end_s: float) -> tuple[Step, ...] | None:
    """Steps from ``start_s`` to ``end_s`` of the monotonic clock, in seconds from ``start_s``, without gaps.

    ``None`` if there is no tap, or it wrote nothing in that time.
    """
    found = _between(tap, start_s, end_s)
    return contiguous(found, start_s, end_s) if found else None


def engines_between(
    tap: Path, engines: int, start_s: float, end_s: float
) -> tuple[tuple[int | None, ...], dict[str, int]] | None:
    """Of each of several data-parallel engines its KV blocks, and by which of them each call was computed.

    ``tap`` is that of the first; ``None`` if one of them has none.
    """
    taps = [tap, *(tap.with_name(f"{tap.name}.{rank}") for rank in range(1, engines))]
    found = [_between(each, start_s, end_s) for each in taps]
    if any(steps is None for steps in found):
        return None
    blocks = tuple(read_tap_header(each).get("num_gpu_blocks") for each in taps)
    return blocks, {r.id: rank for rank, steps in enumerate(found) for step in steps or () for r in step.requests}


def _between(tap: Path, start_s: float, end_s: float) -> list[TapStep] | None:
    """The tapped steps, once all of them are written; ``None`` if there is no tap."""
    deadline_s = monotonic() + FLUSH_S
    while True:
        if not tap.exists() or not (size := tap.stat().st_size):
            return None
        found = [s for s in read_tap(tap) if start_s <= s.scheduled_ns / 1e9 and s.processed_ns / 1e9 <= end_s + 1e-3]
        sleep(SETTLED_S)
        if tap.stat().st_size == size or monotonic() > deadline_s:
            return found


def contiguous(tapped: Iterable[TapStep], start_s: float, end_s: float) -> tuple[Step, ...]:
    """Tapped steps as a run's: each lasts from the end of the one before, or from when it was decided if that is later.

    What lies between is idle. Under asynchronous scheduling a step is decided while the one before is computed.
    """
    steps: list[Step] = []
    now_s = 0.0
    for step in tapped:
        begun_s = max(now_s, step.scheduled_ns / 1e9 - start_s)
        ended_s = max(begun_s, step.processed_ns / 1e9 - start_s)
        if not step.requests or ended_s == begun_s:
            continue
        if begun_s > now_s:
            steps.append(Step(now_s, begun_s, 0, None))
        steps.append(
            Step(
                begun_s,
                ended_s,
                1,
                None,
                prefill=tuple((r.id, r.computed_tokens, r.cached_tokens) for r in step.requests if r.prefill),
                decode=tuple((r.id, r.emitted_tokens) for r in step.requests if not r.prefill),
                preempted=step.preempted,
                prefill_context=tuple(r.context_tokens for r in step.requests if r.prefill),
                decode_context=tuple(r.context_tokens for r in step.requests if not r.prefill),
            )
        )
        now_s = ended_s
    if end_s - start_s > now_s:
        steps.append(Step(now_s, end_s - start_s, 0, None))
    return tuple(steps)

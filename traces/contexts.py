"""How many tokens lay before each token that an engine step computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rejoule.traces.run import Step

Contexts = tuple[tuple[float, ...], tuple[float, ...]]
"""Of one step: tokens before each entry of ``prefill``; tokens attended to by each of ``decode``, over its steps."""


def contexts(steps: Sequence[Step], prompt_tokens: Mapping[str, int | None]) -> Iterator[Contexts]:
    """As the engine told, or else followed through the steps: a call's context grows by what is computed for it."""
    at: dict[str, float] = {}
    for step in steps:
        for call in step.preempted:
            at.pop(call, None)
        before = []
        for call, computed, cached in step.prefill:
            start = at.get(call, float(cached))
            before.append(start)
            at[call] = start + computed
        attended = []
        for call, emitted in step.decode:
            start = at.get(call, float(prompt_tokens.get(call) or 0))
            # Each token attends to those before it and to itself.
            attended.append(emitted * start + emitted * (emitted + 1) / 2.0)
            at[call] = start + emitted
        yield (
            tuple(map(float, step.prefill_context)) if len(step.prefill_context) == len(before) else tuple(before),
            tuple(map(float, step.decode_context)) if len(step.decode_context) == len(attended) else tuple(attended),
        )

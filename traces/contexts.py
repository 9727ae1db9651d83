"""How many tokens lay before each token that an engine step computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rejoule.traces.run import Step

Contexts = tuple[tuple[float, ...], tuple[float, ...]]
"""Of one step: tokens before each entry of ``prefill``; tokens attended to by each of ``decode``, over its steps."""


def contexts(steps: Sequence[Step], prompt_tokens: Mapping[str, int | None]) -> Iterator[Contexts]:
    """As the engine told, or else followed through the steps: a call's context grows by what is computed for it."""
    at: dict[str, float] = {}
    computed_of = _computed(steps)
    for step in steps:
        for call in step.preempted:
            at.pop(call, None)
        before = []
        for call, computed, cached in step.prefill:
            start = at.get(call)
            if start is None:
                # A step that was written down without what the cache held tells it by what was left to compute.
                left = (prompt_tokens.get(call) or 0) - computed_of.get(call, prompt_tokens.get(call) or 0)
                start = float(cached or max(0, left))
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


def _computed(steps: Sequence[Step]) -> dict[str, int]:
    """Prompt tokens computed of each call; none of those that were preempted, which compute them again."""
    found: dict[str, int] = {}
    for step in steps:
        for call, computed, _ in step.prefill:
            found[call] = found.get(call, 0) + computed
    again = {call for step in steps for call in step.preempted}
    return {call: tokens for call, tokens in found.items() if call not in again}

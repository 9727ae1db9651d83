"""A run cut into stretches in which the same calls shared the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from rejoule.traces.run import CallResult, Run, Step


@dataclass(frozen=True, slots=True)
class Slice:
    """What the GPU did for which call in a stretch of time; idle when for none."""

    duration_s: float
    steps: float
    """Engine steps in it; an estimate where the engine could not be watched."""
    energy_j: float | None
    prefill: Mapping[str, float] = field(default_factory=dict)
    """Prompt tokens computed, by call; those found in the prefix cache cost nothing and do not count."""
    decode: Mapping[str, float] = field(default_factory=dict)
    """Tokens emitted, by call."""

    @property
    def idle(self) -> bool:
        return not self.prefill and not self.decode


def slices_of(run: Run) -> tuple[Slice, ...]:
    """The engine's own step records where there are any, otherwise what the client's clock tells."""
    if run.steps is not None:
        return tuple(_from_step(step) for step in run.steps)
    return _from_client_times(run)


def _from_step(step: Step) -> Slice:
    prefill: dict[str, float] = {}
    for call, computed, _ in step.prefill:
        prefill[call] = prefill.get(call, 0.0) + computed
    decode: dict[str, float] = {}
    for call, emitted in step.decode:
        decode[call] = decode.get(call, 0.0) + emitted
    return Slice(step.end_s - step.start_s, max(step.steps, 0), step.energy_j, prefill, decode)


@dataclass(frozen=True, slots=True)
class _Span:
    """Tokens of one call, spread evenly over a stretch of time."""

    call: str
    phase: str
    start_s: float
    end_s: float
    tokens: float

    def tokens_in(self, start_s: float, end_s: float) -> float:
        return self.tokens * (end_s - start_s) / (self.end_s - self.start_s)


def _spans(call: CallResult) -> tuple[_Span, ...]:
    """Prefill from sending to the first token, decode from there to the end; both throughout if nothing streamed."""
    computed = max(0, (call.prompt_tokens or 0) - (call.cached_tokens or 0))
    prefill_end = call.end_s if call.first_token_s is None else call.first_token_s
    decode_start = call.sent_s if call.first_token_s is None else call.first_token_s
    spans = (
        _Span(call.id, "prefill", call.sent_s, prefill_end, computed),
        _Span(call.id, "decode", decode_start, call.end_s, call.output_tokens or 0),
    )
    return tuple(span for span in spans if span.end_s > span.start_s)


def _from_client_times(run: Run) -> tuple[Slice, ...]:
    spans = sorted((span for call in run.calls for span in _spans(call)), key=lambda s: (s.start_s, s.call, s.phase))
    times = sorted({0.0, run.makespan_s, *(t for span in spans for t in (span.start_s, span.end_s))})
    slices = []
    active: list[_Span] = []
    upcoming = 0
    for start, end in pairwise(times):
        active = [span for span in active if span.end_s > start]
        while upcoming < len(spans) and spans[upcoming].start_s <= start:
            active.append(spans[upcoming])
            upcoming += 1
        prefill = {s.call: s.tokens_in(start, end) for s in active if s.phase == "prefill"}
        decode = {s.call: s.tokens_in(start, end) for s in active if s.phase == "decode"}
        # An engine step emits one token for every call that decodes, so the fastest of them counts the steps.
        slices.append(Slice(end - start, max(decode.values(), default=0.0), None, prefill, decode))
    return tuple(slices)

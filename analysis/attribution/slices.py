"""A run cut into stretches in which the same calls shared the GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from rejoule.traces.contexts import contexts
from rejoule.traces.preempted import tokens_again
from rejoule.traces.run import CallResult, Run, Step


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of one call in one phase, and how many token pairs attention went over for them."""

    tokens: float = 0.0
    attended: float = 0.0
    """Σ over the tokens of the tokens before them; in prefill of n tokens after c, n · (c + n/2)."""
    again: float = 0.0
    """Of the tokens, those that had been computed before the call was preempted."""

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.attended + other.attended, self.again + other.again)


@dataclass(frozen=True, slots=True)
class Slice:
    """What the GPU did for which call in a stretch of time; idle when for none."""

    start_s: float
    end_s: float
    steps: float
    """Engine steps in it; an estimate where the engine could not be watched."""
    energy_j: float | None
    prefill: Mapping[str, Work] = field(default_factory=dict)
    """Prompt tokens computed, by call; those found in the prefix cache cost nothing and do not count."""
    decode: Mapping[str, Work] = field(default_factory=dict)
    """Tokens emitted, by call."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def idle(self) -> bool:
        return not self.prefill and not self.decode


def slices_of(run: Run) -> tuple[Slice, ...]:
    """The engine's own step records where there are any, otherwise what the client's clock tells."""
    if run.steps is None:
        return _from_client_times(run)
    prompts = {call.id: call.prompt_tokens for call in run.calls}
    known = zip(run.steps, contexts(run.steps, prompts), tokens_again(run.steps, prompts), strict=True)
    return tuple(_from_step(step, *found, again) for step, found, again in known)


def _from_step(step: Step, before: Iterable[float], attended: Iterable[float], twice: Iterable[float]) -> Slice:
    prefill: dict[str, Work] = {}
    for (call, computed, _), context, again in zip(step.prefill, before, twice, strict=True):
        prefill[call] = prefill.get(call, Work()) + Work(computed, computed * (context + computed / 2.0), again)
    decode: dict[str, Work] = {}
    for (call, emitted), context in zip(step.decode, attended, strict=True):
        decode[call] = decode.get(call, Work()) + Work(emitted, context)
    return Slice(step.start_s, step.end_s, max(step.steps, 0), step.energy_j, prefill, decode)


@dataclass(frozen=True, slots=True)
class _Span:
    """Tokens of one call, spread evenly over a stretch of time."""

    call: str
    phase: str
    start_s: float
    end_s: float
    tokens: float
    context: float
    """Tokens before the first of them."""

    def work_in(self, start_s: float, end_s: float) -> Work:
        length_s = self.end_s - self.start_s
        before = self.tokens * ((start_s - self.start_s) / length_s)
        count = self.tokens * ((end_s - start_s) / length_s)
        return Work(count, count * (self.context + before + count / 2.0))


def _spans(call: CallResult) -> tuple[_Span, ...]:
    """Prefill from sending to the first token, decode from there to the end; both throughout if nothing streamed."""
    prompt, cached = call.prompt_tokens or 0, call.cached_tokens or 0
    prefill_end = call.end_s if call.first_token_s is None else call.first_token_s
    decode_start = call.sent_s if call.first_token_s is None else call.first_token_s
    spans = (
        _Span(call.id, "prefill", call.sent_s, prefill_end, max(0, prompt - cached), cached),
        _Span(call.id, "decode", decode_start, call.end_s, call.output_tokens or 0, prompt),
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
        prefill = {s.call: s.work_in(start, end) for s in active if s.phase == "prefill"}
        decode = {s.call: s.work_in(start, end) for s in active if s.phase == "decode"}
        # An engine step emits one token for every call that decodes, so the fastest of them counts the steps.
        steps = max((work.tokens for work in decode.values()), default=0.0)
        slices.append(Slice(start, end, steps, None, prefill, decode))
    return tuple(slices)

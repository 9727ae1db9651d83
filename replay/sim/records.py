"""What a simulated engine tells: what became of a request, and what it did, step by step."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Event(NamedTuple):
    """Something that the sender of a request learns. ``cached_tokens`` are those of the prompt found in the cache.

    ``emitted`` is that the answer has come up to one of the numbers of ``tokens`` that the request asked to be told of.
    """

    kind: Literal["first_token", "emitted", "finished"]
    id: str
    at_s: float
    cached_tokens: int
    preemptions: int
    tokens: int = 0


class StepRecord(NamedTuple):
    """One step, or ``steps`` equal ones, or an idle gap. Records follow one another without a gap.

    ``prefill`` has (request, new tokens, cached tokens) for each prompt chunk, ``prefill_context`` the tokens that lay
    in the KV cache before it; each of ``decode_ids`` got one token a step, and ``context_tokens`` is the sum of their
    contexts at the first step, each the sum of its ``decode_bases`` and ``tick``. ``cap_bound`` says that the power cap
    lowered the clock, ``attainable`` whether that sufficed.
    """

    start_s: float
    end_s: float
    steps: int
    energy_j: float
    sm_clock_mhz: float
    cap_bound: bool
    attainable: bool
    step_s: float
    growth_s: float
    idle: bool = False
    prefill: tuple[tuple[str, int, int], ...] = ()
    decode_ids: tuple[str, ...] = ()
    context_tokens: int = 0
    preempted: tuple[str, ...] = ()
    prefill_context: tuple[int, ...] = ()
    decode_bases: tuple[int, ...] = ()
    tick: int = 0

    @property
    def decode_context(self) -> tuple[int, ...]:
        """Tokens that each of ``decode_ids`` found in the KV cache, summed over the steps."""
        steps, tick = self.steps, self.tick
        if steps == 1:
            return tuple([base + tick for base in self.decode_bases])
        first = steps * tick + steps * (steps - 1) // 2
        return tuple([steps * base + first for base in self.decode_bases])

    @property
    def decode(self) -> tuple[tuple[str, int], ...]:
        """(request, tokens) of everyone who decoded."""
        return tuple((name, self.steps) for name in self.decode_ids)

    def token_time_s(self, index: int) -> float:
        """When step ``index`` (from 0) ended, and with it each decoding request's token ``index``."""
        if index == self.steps - 1:
            return self.end_s
        done = index + 1
        return self.start_s + done * self.step_s + self.growth_s * done * index / 2


def idle_record(start_s: float, end_s: float, energy_j: float, clock_mhz: float) -> StepRecord:
    """The record of a gap in which there was nothing to do."""
    return StepRecord(
        start_s=start_s,
        end_s=end_s,
        steps=0,
        energy_j=energy_j,
        sm_clock_mhz=clock_mhz,
        cap_bound=False,
        attainable=True,
        step_s=0.0,
        growth_s=0.0,
        idle=True,
    )

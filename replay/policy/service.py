"""By what a workflow has had, and how long it has waited: nothing of what is to come is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from rejoule.replay.policy.interface import Pending, Policy, Program, View
from rejoule.replay.policy.paths import milli
from rejoule.traces.errors import RejouleError


@dataclass
class LeastAttained(Policy):
    """The workflow first that has had least service: llm-d-router#1534, the idea of Autellix.

    Score: 0.8·inverse service + 0.2·wait of the call. Service is prompt + 2·output tokens, and halves every 60 s.
    Weights and half-life are llm-d's; both parts are shares of the largest among the pending, which is ours.
    """

    service_weight: float = 0.8
    wait_weight: float = 0.2
    output_weight: float = 2.0
    half_life_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.half_life_s > 0:
            raise RejouleError(f"half_life_s = {self.half_life_s:g} has no meaning", "give seconds above 0")

    def priorities(self, view: View) -> Sequence[int]:
        programs = dict.fromkeys(call.workflow for call in view.pending)
        service = {name: self._service(view.programs[name], view.now_s) for name in programs}
        waits = [view.now_s - call.due_s for call in view.pending]
        most, longest = max(service.values(), default=0.0) or 1.0, max(waits, default=0.0) or 1.0
        return [
            -milli(self.service_weight * (1 - service[call.workflow] / most) + self.wait_weight * wait_s / longest)
            for call, wait_s in zip(view.pending, waits, strict=True)
        ]

    def _service(self, program: Program, now_s: float) -> float:
        had = ((done.call.prompt_tokens or 0) + self.output_weight * done.output_tokens for done in program.done)
        ages_s = (now_s - done.end_s for done in program.done)
        return sum(tokens * exp(-log(2) * age_s / self.half_life_s) for tokens, age_s in zip(had, ages_s, strict=True))


@dataclass
class TurnPriority(Policy):
    """The workflow first that is furthest: turn number + 0.5·seconds waited (llm-d-router#2116), where calls must wait.

    What a workflow computed is then used while its prefix is still cached. The router also starts to count anew when
    that was evicted, which a client cannot see.
    """

    wait_weight: float = 0.5

    def priority(self, call: Pending, view: View) -> int:
        return -milli(call.turn + self.wait_weight * (view.now_s - call.due_s)) if view.crowded else 0

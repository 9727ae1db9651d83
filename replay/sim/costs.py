"""What planned steps cost: demands by the latency model, time and energy by the power model."""

from __future__ import annotations

from rejoule.replay.sim.latency import Demand, LatencyModel, Work
from rejoule.replay.sim.lockstep import Lockstep
from rejoule.replay.sim.power import Operation, PowerModel
from rejoule.replay.sim.scheduler import Plan
from rejoule.replay.sim.stretch import Stretch, interpolated


def work_of(plan: Plan, first: bool) -> Work:
    """What a step computes; ``first`` says that there was nothing to do before it."""
    tokens = context = completed = 0
    pairs = 0.0
    for job, new, before, _ in plan.chunks:
        tokens += new
        context += before
        pairs += new * (before + new / 2)
        completed += before + new == job.prompt_tokens + job.produced
    return Work(len(plan.chunks), tokens, pairs, context, plan.decodes, plan.decode_context, completed, first)


class StepCosts:
    """The models of one engine, asked about its plans."""

    def __init__(self, latency: LatencyModel, power: PowerModel) -> None:
        self._latency = latency
        self.power = power

    def demand(self, plan: Plan, first: bool) -> Demand:
        """Of a step that may compute prompts."""
        return self._latency.demand(work_of(plan, first))

    def decode_demand(self, plan: Plan) -> Demand:
        """Of a step that only decodes, after another one."""
        return self._latency.demand(Work(decodes=plan.decodes, decode_context=plan.decode_context))

    def settling(self, plan: Plan, now_s: float) -> bool:
        """Whether the power has yet to become what it is going to be while these requests decode."""
        return self.power.settling(self.decode_demand(plan), now_s)

    def stretch(self, plan: Plan, decoding: Lockstep, start_s: float, now_s: float, steps: int) -> Stretch:
        """As many decode steps as ``steps``, of which the planned one is the first. The GPU draws their power."""
        first = self._decode(plan.decodes, plan.decode_context)
        last = self._decode(plan.decodes, plan.decode_context + plan.decodes * (steps - 1)) if steps > 1 else first
        self.power.hold(first.power_w, now_s)
        return interpolated(decoding.version, start_s, decoding.tick, steps, first, last)

    def _decode(self, decodes: int, context: int) -> Operation:
        return self.power.operate(self._latency.demand(Work(decodes=decodes, decode_context=context)))

"""First come, first served: what all other policies are held against."""

from __future__ import annotations

from rejoule.replay.policy.interface import Pending, Policy, View


class FirstCome(Policy):
    """Calls in the order in which they became due, whatever workflow they belong to: what vLLM does of itself."""


class FirstWorkflow(Policy):
    """Workflows in the order of arrival: what came first is finished first. Half of what Continuum does."""

    def priority(self, call: Pending, view: View) -> int:
        return call.place

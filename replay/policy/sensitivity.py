"""How much a call's lateness matters: the rule of NVIDIA's NeMo Agent Toolkit (NAT), NeMo-Agent-Toolkit#1634."""

from __future__ import annotations

from dataclasses import dataclass

from rejoule.replay.policy.interface import Pending, Policy, View

LEVELS = 5


@dataclass
class Sensitivity(Policy):
    """0.5·critical path + 0.3·fan-out + 0.2·first or last − w·sibling slack, as a level of 1 (first) to 5.

    Weights are the published ones; how each part becomes a number from 0 to 1 is ours: 1 less its slack's share of the
    workflow's time; 1 − 1/calls that wait for it; whether it is first or last; its sibling slack's share of that time.
    """

    critical_path: float = 0.5
    fan_out: float = 0.3
    first_or_last: float = 0.2
    sibling_slack: float = 0.0
    """0.5 in NAT's demo."""

    def priority(self, call: Pending, view: View) -> int:
        outlook = call.outlook
        whole_s = outlook.workflow_s or 1.0
        score = (
            self.critical_path * (1 - min(1.0, outlook.slack_s / whole_s))
            + self.fan_out * (1 - 1 / max(1.0, outlook.fan_out))
            + self.first_or_last * (1.0 if call.turn == 1 else outlook.last)
            - self.sibling_slack * min(1.0, outlook.sibling_slack_s / whole_s)
        )
        return LEVELS - round((LEVELS - 1) * min(1.0, max(0.0, score)))

"""A scheduling policy in one file: see docs/policies.md.

rejoule replay t.jsonl -o runs --concurrency 4 --policy none,examples/slack_policy.py:SlackWaits
"""

from dataclasses import dataclass

from rejoule.replay.policy import Decision, Pending, Policy, View


@dataclass
class SlackWaits(Policy):
    """Calls with the least slack first; those with more than a little wait while others are in flight."""

    most_slack_s: float = 1.0

    def left_s(self, call: Pending, view: View) -> float:
        return call.outlook.slack_s - (view.now_s - call.due_s)

    def priority(self, call: Pending, view: View) -> int:
        return round(1000 * self.left_s(call, view))

    def decide(self, view: View) -> Decision:
        slack_s = {call.id: self.left_s(call, view) for call in view.pending}
        urgent = tuple(s for s in super().decide(view).send if slack_s[s.call] <= self.most_slack_s)
        if urgent or not view.in_flight:
            return Decision(urgent or super().decide(view).send[:1])
        return Decision(ask_again_s=view.now_s + min(slack_s.values()) - self.most_slack_s + 0.001)

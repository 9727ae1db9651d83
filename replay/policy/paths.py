"""By what is still to come on a call's way to the end of its workflow."""

from __future__ import annotations

from rejoule.replay.policy.interface import Pending, Policy, View


def milli(value: float) -> int:
    """As a whole number of thousandths: priorities are whole numbers."""
    return round(1000 * value)


class ShortestPath(Policy):
    """The call whose longest way to the end has the fewest tokens first: shortest remaining time, by the workflow.

    It makes the mean time of workflows short where calls are answered one at a time, and long workflows wait.
    """

    def priority(self, call: Pending, view: View) -> int:
        return milli(call.outlook.path_tokens)


class CriticalPath(Policy):
    """The call with the longest way to the end first, in seconds: list scheduling, for the time of all together."""

    def priority(self, call: Pending, view: View) -> int:
        return -milli(call.outlook.path_s)


class LeastSlack(Policy):
    """The call first that can least afford to wait without delaying its own workflow; waiting uses slack up."""

    def priority(self, call: Pending, view: View) -> int:
        return milli(call.outlook.slack_s - (view.now_s - call.due_s))

"""Calls that can wait ride with calls that cannot: slack for joules, a policy of ReJoule's own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import inf

from rejoule.replay.policy.interface import Decision, Flight, Pending, Policy, Send, View
from rejoule.traces.errors import RejouleError


@dataclass
class Slack(Policy):
    """Holds a call that would run with few, until one comes that runs anyway or the call cannot wait any longer.

    A step reads all weights whether it serves one call or many, so a call that rides with another saves most of its
    joules. A call rides if one in flight has at least ``ride`` of its length to go. One that would not is held

    - by its slack, less what its workflow's calls were held before: another branch of its workflow takes longer;
    - with a deadline, for ``worth`` times its own length, if a call of another workflow is expected by then,

    and never longer than the way to its workflow's end is expected to fit in before the deadline, after all that is
    pending or in flight. Nothing is held before the first call has ended, which tells how fast the engine is beside the
    recording's. All else is first come, first served.
    """

    deadline_s: float = 0.0
    """From a workflow's arrival; 0 is none."""
    deadline_factor: float = 0.0
    """The same in times of the workflow's own critical path."""
    ride: float = 0.5
    worth: float = 1.0
    """A lone decode of the H200's profile draws beyond idle power 0.9 times that under 250 W, and 2.3 at 700 W: to wait
    longer than so many times what is saved wins nothing."""
    _spent_s: dict[str, float] = field(default_factory=lambda: defaultdict(float), init=False)
    """For how long calls of each workflow were held."""
    _paces: dict[str, _Pace] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        for name in ("deadline_s", "deadline_factor", "ride", "worth"):
            if not getattr(self, name) >= 0:
                raise RejouleError(f"{name} = {getattr(self, name):g} has no meaning", "give 0 or more")

    def decide(self, view: View) -> Decision:
        slowest, fastest = self._seen(view)
        until_s = {call.id: self._until_s(call, view, slowest, fastest) for call in view.pending}
        must = {name for name, at_s in until_s.items() if at_s <= view.now_s}
        to_go_s = [_to_go_s(flight, view.now_s) for flight in view.in_flight.values()]
        to_go_s += [call.outlook.call_s for call in view.pending if call.id in must]
        carried_s = max(to_go_s, default=-1.0)
        going = [c for c in view.pending if c.id in must or self.ride * c.outlook.call_s <= carried_s]
        for call in going[: view.free]:
            self._spent_s[call.workflow] += view.now_s - call.due_s
        held = until_s.keys() - {call.id for call in going}
        return Decision(tuple(Send(c.id) for c in going), min((until_s[name] for name in held), default=None))

    def _until_s(self, call: Pending, view: View, slowest: float | None, fastest: float) -> float:
        """How long a call may be held."""
        outlook = call.outlook
        if slowest is None or outlook.basis == "nothing":
            return call.due_s
        slack_s = outlook.slack_s - (0.0 if view.knows == "oracle" else _least_slack_s(call, view))
        until_s = call.due_s + slack_s * min(1.0, fastest) - self._spent_s[call.workflow]
        if not (deadline_s := self.deadline_s or self.deadline_factor * outlook.workflow_s):
            return until_s
        worth_s = call.due_s + self.worth * outlook.call_s
        if worth_s > until_s and _next_s(call, view) <= worth_s:
            until_s = worth_s
        needed_s = outlook.path_s + sum(other.outlook.call_s for other in view.calls)
        return min(until_s, call.arrival_s + deadline_s - max(1.0, slowest) * needed_s)

    def _seen(self, view: View) -> tuple[float | None, float]:
        """The engine's time for one second of the recording's: in the slowest workflow and in the fastest."""
        for name, program in view.programs.items():
            pace = self._paces.setdefault(name, _Pace())
            for done in program.done[pace.calls :]:
                pace.calls += 1
                pace.took_s += done.end_s - done.sent_s
                pace.expected_s += done.call.outlook.call_s
        known = [pace.took_s / pace.expected_s for pace in self._paces.values() if pace.expected_s > 0]
        return max(known, default=None), min(known, default=1.0)


@dataclass
class _Pace:
    calls: int = 0
    took_s: float = 0.0
    expected_s: float = 0.0


def _to_go_s(flight: Flight, now_s: float) -> float:
    return flight.call.outlook.call_s - (now_s - flight.sent_s)


def _least_slack_s(call: Pending, view: View) -> float:
    """Of its workflow's calls that are pending or in flight: means do not tell which branch will be the longest."""
    return min(other.outlook.slack_s for other in view.calls if other.workflow == call.workflow)


def _next_s(call: Pending, view: View) -> float:
    """When a call of another workflow is expected."""
    found = [
        view.now_s + _to_go_s(f, view.now_s) + f.call.outlook.after_s
        for f in view.in_flight.values()
        if f.call.workflow != call.workflow and f.call.outlook.last < 0.5
    ]
    busy = {other.workflow for other in view.calls}
    for name, program in view.programs.items():
        if name not in busy and not program.over and program.done:
            found.append(program.done[-1].end_s + program.done[-1].call.outlook.after_s)
    return min((at_s for at_s in found if at_s >= view.now_s), default=inf)

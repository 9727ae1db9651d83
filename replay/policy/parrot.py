"""What a workflow's end waits for decides how its calls are served: Parrot (Lin et al., OSDI 2024)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from rejoule.replay.policy.interface import Decision, Pending, Policy, Send, View
from rejoule.replay.policy.paths import milli
from rejoule.traces.errors import RejouleError


@dataclass
class Parrot(Policy):
    """Objectives by the graph, those with most calls after them first, and what belongs together in one step.

    A call that is of a task group is there for throughput: its group is waited for as a whole. All others are there for
    latency, and run with few others: none of them is sent while ``latency_calls`` are in flight, and while one is in
    flight, no more than that are. A task group, or else the pending calls with one prefix, goes out in one step if all
    of it may, and call by call if not; among the calls in flight before it, a whole group needs no more than one place.
    """

    latency_calls: int = 4
    """ParrotServe's bound of a task for latency; one for throughput has none."""

    def __post_init__(self) -> None:
        if self.latency_calls < 1:
            raise RejouleError(f"latency_calls = {self.latency_calls} would send nothing", "give 1 or more")

    def decide(self, view: View) -> Decision:
        ordered = sorted(view.pending, key=lambda call: (-call.outlook.path_calls, call.due_s))
        groups = defaultdict[tuple[str, str], list[Pending]](list)
        for call in ordered:
            groups[_group(call)].append(call)
        running = [flight.call for flight in view.in_flight.values()]
        sent: list[Pending] = []
        for group in groups.values():
            for part in [group] if self._fits(group, running, view) else [[call] for call in group]:
                if self._fits(part, running, view):
                    running += part
                    sent += part
        return Decision(tuple(Send(call.id, -milli(call.outlook.path_calls)) for call in sent))

    def _fits(self, group: list[Pending], running: list[Pending], view: View) -> bool:
        """Whether a group may run beside what runs, which needs a seat for each of its calls, if seats are known."""
        after = len(running) + len(group)
        seats = view.capacity.seats
        if seats is not None and after > seats:
            return False
        if not all(map(for_throughput, group)) and len(running) >= self.latency_calls:
            return False
        return all(map(for_throughput, running)) or after <= self.latency_calls


def for_throughput(call: Pending) -> bool:
    """Whether it is of a task group; with learned knowledge, whether such calls mostly were."""
    return call.outlook.grouped >= 0.5


def _group(call: Pending) -> tuple[str, str]:
    """What goes out together: the task group of a workflow, or calls of one prefix."""
    return ("workflow", call.workflow) if for_throughput(call) else ("prefix", call.prefix)

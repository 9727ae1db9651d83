"""How long each workflow of a run waited: held by the client, or in the engine's queue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rejoule.traces.run import CallResult, Run, ToolResult, WorkflowResult

Stretch = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Wait:
    """Of one workflow, in seconds. What cannot be known is ``None``."""

    workflow: str
    time_s: float
    """From its arrival to its end."""
    held_s: float
    """From when its calls were due to when they were sent, summed over them: by a limit of calls in flight, or by a
    policy."""
    queued_s: float | None
    """From when its calls were sent to the engine step that took them up, and from each preemption to the step that
    went on, summed over them; ``None`` where the engine's steps are not known."""
    stalled_s: float | None
    """While some of its calls were held or queued, and nothing of it went on: no call of it was worked at, no tool
    ran. What a workflow waits while another branch of it goes on is not in it."""

    @property
    def progress(self) -> float | None:
        """The share of its time in which it was not stalled, from 0 to 1."""
        if self.stalled_s is None:
            return None
        return 1.0 - self.stalled_s / self.time_s if self.time_s > 0.0 else 1.0


def served(run: Run) -> tuple[WorkflowResult, ...]:
    """The complete workflows that took time: one whose calls are all left out has none to speak of."""
    named = {call.workflow for call in run.calls}
    return tuple(w for w in run.workflows if w.complete and w.id in named)


def waits(run: Run) -> tuple[Wait, ...]:
    """Of the workflows that were served, in the order of the run."""
    queued = _queued(run)
    calls, tools = defaultdict[str, list[CallResult]](list), defaultdict[str, list[ToolResult]](list)
    for call in run.calls:
        calls[call.workflow].append(call)
    for tool in run.tools:
        tools[tool.workflow].append(tool)
    return tuple(_wait(w, calls[w.id], tools[w.id], queued) for w in served(run))


def _queued(run: Run) -> Mapping[str, Sequence[Stretch]] | None:
    """When each answered call lay in the engine's queue; ``None`` unless every one of them is seen in a step.

    One that was preempted and never went on had its whole answer, and waited for nothing.
    """
    if run.steps is None:
        return None
    ends = {call.id: call.end_s for call in run.calls if call.error is None}
    since = {call.id: call.sent_s for call in run.calls if call.error is None}
    found: dict[str, list[Stretch]] = {name: [] for name in since}
    preempted = set[str]()
    for step in run.steps:
        taken = [name for name, *_ in step.prefill]
        if preempted:
            taken += [name for name, _ in step.decode if name in preempted]
        for name in taken:
            begun_s = since.pop(name, None)
            if begun_s is not None and begun_s < step.start_s:
                found[name].append((begun_s, min(step.start_s, ends[name])))
        preempted.difference_update(taken)
        for name in step.preempted:
            if name in found:
                since[name] = step.start_s
                preempted.add(name)
    return None if since.keys() - preempted else found


def _wait(
    workflow: WorkflowResult,
    calls: Sequence[CallResult],
    tools: Sequence[ToolResult],
    queued: Mapping[str, Sequence[Stretch]] | None,
) -> Wait:
    held_s = sum(max(0.0, call.sent_s - call.due_s) for call in calls)
    time_s = workflow.end_s - workflow.arrival_s
    if queued is None:
        return Wait(workflow.id, time_s, held_s, None, None)
    lying = [stretch for call in calls for stretch in queued.get(call.id, ())]
    stalled_s = _stalled_s(calls, tools, lying)
    return Wait(workflow.id, time_s, held_s, sum(b - a for a, b in lying), min(stalled_s, max(0.0, time_s)))


def _stalled_s(calls: Sequence[CallResult], tools: Sequence[ToolResult], lying: Sequence[Stretch]) -> float:
    """The time in which something waits and nothing goes on, by counting both through all that begins and ends."""
    changes: list[tuple[float, int, int]] = []
    for call in calls:
        changes += [(call.due_s, 1, 0), (max(call.due_s, call.sent_s), -1, 0), (call.sent_s, 0, 1), (call.end_s, 0, -1)]
    for start_s, end_s in lying:
        changes += [(start_s, 1, -1), (end_s, -1, 1)]
    for tool in tools:
        changes += [(tool.start_s, 0, 1), (tool.end_s, 0, -1)]
    stalled_s, before_s, waiting, working = 0.0, 0.0, 0, 0
    for at_s, wait, work in sorted(changes):
        if waiting > 0 and working <= 0:
            stalled_s += at_s - before_s
        before_s, waiting, working = at_s, waiting + wait, working + work
    return stalled_s

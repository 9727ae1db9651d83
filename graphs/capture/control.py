"""What LangGraph's control flow says about the order of node executions: pure, from tasks and their writes.

`barrier`: a superstep begins when the one before has ended, so every task waits for all tasks of that step.
`trigger`: a task waits for the tasks that wrote a channel which woke it. LangGraph relies on these rules:

1. A node wakes when one of its trigger channels was written since it last woke; a join gathers over many steps.
2. The Sends of a step are numbered across its tasks, in the order in which LangGraph sorts their paths.
3. A Send neither needs nor consumes its node's trigger channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rejoule.graphs.capture.task_context import TaskContext
from rejoule.graphs.capture.writes import TaskWrites

SENDS = "__pregel_tasks"

Links = set[tuple[str, str]]
"""Pairs of task executions: the first had to end before the second could begin."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a task. A task that was interrupted is executed again in a later turn."""

    id: str
    turn: int
    context: TaskContext


@dataclass(frozen=True, slots=True)
class _Known:
    """A task that LangGraph knows: executed, or one whose writes came without it, as from a cache or the input."""

    id: str
    step: int
    node: str | None = None
    triggers: frozenset[str] = frozenset()


def links(
    executions: Sequence[Execution], rows: Iterable[TaskWrites], steps: Mapping[tuple[str, str], int]
) -> tuple[Links, Links]:
    """The barrier links and the trigger links between executions of the same graph instances."""
    wrote = {row.task: row for row in rows}
    instances: dict[str, list[Execution]] = defaultdict(list)
    for execution in executions:
        if not execution.context.functional:
            instances[execution.context.namespace].append(execution)
    unexecuted: dict[str, list[_Known]] = defaultdict(list)
    executed = {execution.context.id for execution in executions}
    for row in wrote.values():
        step = steps.get((row.namespace, row.checkpoint))
        if row.task not in executed and step is not None:
            unexecuted[row.namespace].append(_Known(row.task, step + 1))
    barrier: Links = set()
    trigger: Links = set()
    for namespace, members in instances.items():
        instance = _Instance(members, unexecuted[namespace], wrote)
        for execution in members:
            barrier |= {(source, execution.id) for source in instance.step_before(execution)}
            trigger |= {(source, execution.id) for source in instance.woken_by(execution)}
    return barrier, trigger


class _Instance:
    """The tasks of one execution of one graph."""

    def __init__(
        self, executions: Sequence[Execution], unexecuted: Sequence[_Known], wrote: Mapping[str, TaskWrites]
    ) -> None:
        self._executions: dict[str, list[Execution]] = defaultdict(list)
        for execution in executions:
            self._executions[execution.context.id].append(execution)
        self._wrote = wrote
        self._tasks = {task.id: task for task in unexecuted}
        self._by_step: dict[int, list[_Known]] = defaultdict(list)
        self._woken_at: dict[str, set[int]] = defaultdict(set)
        self._writers: dict[str, list[_Known]] = defaultdict(list)
        for id, (execution, *_) in self._executions.items():
            context = execution.context
            self._tasks[id] = _Known(id, context.step, context.node, frozenset(context.triggers))
            if context.send is None:
                self._woken_at[context.node].add(context.step)
        for task in self._tasks.values():
            self._by_step[task.step].append(task)
            for channel in set(wrote[task.id].channels) if task.id in wrote else ():
                self._writers[channel].append(task)

    def step_before(self, execution: Execution) -> set[str]:
        """Executions of the superstep before it."""
        return self._executed(self._peers_before(execution.context.step), execution.turn)

    def woken_by(self, execution: Execution) -> set[str]:
        """Executions that made it run; its whole step before where their writes are unknown."""
        context = execution.context
        if context.handles_error:
            failed = [
                other[0].context
                for other in self._executions.values()
                if other[0].context.step == context.step and other[0].context.path[:2] == context.path[:2]
            ]
            writers = [self._tasks[p.id] for p in failed if p.id != context.id]
        elif context.send is not None:
            writers = self._senders(context.step - 1)[context.send : context.send + 1]
        else:
            last = max((step for step in self._woken_at[context.node] if step < context.step), default=-2)
            found = {w.id: w for channel in context.triggers for w in self._writers[channel]}
            writers = [w for w in found.values() if last <= w.step < context.step]
        return self._executed(writers, execution.turn) if writers else self.step_before(execution)

    def _peers_before(self, step: int) -> list[_Known]:
        earlier = [s for s in self._by_step if s < step]
        return self._by_step[max(earlier)] if earlier else []

    def _senders(self, step: int) -> list[_Known]:
        """The tasks of a step, each as often as it sent, in the order that numbers the Sends."""
        writers = [(self._wrote[task.id], task) for task in self._by_step.get(step, ()) if task.id in self._wrote]
        writers.sort(key=lambda pair: (pair[0].path, pair[0].task))
        return [task for row, task in writers for channel in row.channels if channel == SENDS]

    def _executed(self, tasks: Iterable[_Known], turn: int) -> set[str]:
        """Their executions up to this turn; for one that did not run, those of the step before it."""
        found: set[str] = set()
        for task in tasks:
            runs = [run for run in self._executions.get(task.id, ()) if run.turn <= turn]
            if runs:
                found.add(max(runs, key=lambda run: run.turn).id)
            else:
                found |= self._executed(self._peers_before(task.step), turn)
        return found

"""One workflow while it runs: what its runs, its calls and its checkpoints showed so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rejoule.graphs.capture.assemble import Seen, assemble, task_record
from rejoule.graphs.capture.attempt import Attempt
from rejoule.graphs.capture.guard import Guard
from rejoule.graphs.capture.jsonable import jsonable
from rejoule.graphs.capture.rewrite import Outgoing
from rejoule.graphs.capture.runs import Runs, TaskRun
from rejoule.graphs.capture.task_context import CodeContext
from rejoule.graphs.capture.writes import WriteLog
from rejoule.graphs.places.hands import Control
from rejoule.traces.lineage import Lineage
from rejoule.traces.model import Call, Task, Workflow, WorkflowStatus
from rejoule.traces.secrets import described


class WorkflowRecorder:
    """Collects, and makes the `Workflow` at its end."""

    def __init__(
        self, id: str, *, owner: object, now: Callable[[], int], keep: Callable[[Call | Task], None], guard: Guard
    ) -> None:
        self.id = id
        self.owner = owner
        """The recording that it is part of."""
        self.runs = Runs(id, now, described, self._task_finished, guard)
        self.ended = False
        self.unplaced = 0
        """Calls that nothing ties to any node."""
        self._now = now
        self._keep = keep
        self._arrival_ns = now()
        self._guard = guard
        self._begun = 0
        self._lineage = Lineage()
        self._agents: dict[str, str | None] = {}
        """By task."""
        self._open: dict[str, Attempt] = {}
        self._calls: list[tuple[Call, Attempt]] = []

    def attempt(
        self, context: CodeContext, number: int, fit: Callable[[str], Outgoing], by: Control | None = None
    ) -> Attempt:
        """Begins a call; ``fit`` makes its request, given the call's id. ``by`` sends it, if not the running code."""
        task = self.runs.task(context.task)
        self._agents[task.id] = task.agent
        with self._guard:
            id = f"{self.id}/c{self._begun:03d}"
            self._begun += 1
            attempt = self._open[id] = Attempt(
                id,
                outgoing=fit(id),
                task=task.id,
                node=task.node,
                workflow=self.id,
                run=context.run,
                readings=self.runs.readings,
                chain=self.runs.chain(context.run),
                attempt=number,
                by=by,
                now=self._now,
                done=self._call_finished,
            )
        return attempt

    def end(
        self, graph: str, input: Any, status: WorkflowStatus, error: BaseException | None, log: WriteLog
    ) -> Workflow:
        """Closes what is still open, and puts everything in its place."""
        self.ended = True
        for attempt in list(self._open.values()):
            attempt.abandon()
        end_ns = self._now()
        seen = Seen(self.runs, tuple(self._calls), tuple(log.rows), dict(log.steps), end_ns)
        tasks, calls, tool_calls, edges = assemble(self.id, seen)
        return Workflow(
            id=self.id,
            graph=graph,
            arrival_ns=self._arrival_ns,
            end_ns=end_ns,
            status=status,
            error=None if error is None else described(error),
            input=jsonable(input),
            tasks=tasks,
            calls=calls,
            tool_calls=tool_calls,
            edges=edges,
        )

    def disown(self) -> None:
        """In a forked process: nothing of it is this process' own."""
        self.ended = True
        self._guard = Guard()
        self.runs.disown(self._guard)
        for attempt in self._open.values():
            attempt.disown()

    def _call_finished(self, attempt: Attempt, call: Call) -> None:
        with self._guard:
            # All that this prompt can quote has ended, so its parts are known now.
            call = replace(call, parts=self._lineage.parts(call), agent=self._agents[call.task])
            self._lineage.learn(call)
            self._open.pop(attempt.id, None)
            self._calls.append((call, attempt))
        self._keep(call)

    def _task_finished(self, task: TaskRun) -> None:
        if not self.ended:
            self._keep(task_record(self.id, task, self.runs, self._now()))

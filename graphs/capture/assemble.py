"""Puts what was seen of a workflow together: its tasks, calls and tool calls, and the edges between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rejoule.graphs.capture.attempt import Attempt
from rejoule.graphs.capture.control import Execution, links
from rejoule.graphs.capture.edges import Span, Start, edges
from rejoule.graphs.capture.progress import tokens_in
from rejoule.graphs.capture.reading import Part
from rejoule.graphs.capture.runs import Runs, TaskRun, ToolRun
from rejoule.graphs.capture.writes import TaskWrites
from rejoule.traces.model import Call, Edge, Task, ToolCall

ENTRY = "__start__"
"""LangGraph's own node, which routes the input."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All evidence of one workflow."""

    runs: Runs
    calls: tuple[tuple[Call, Attempt], ...]
    writes: tuple[TaskWrites, ...]
    steps: Mapping[tuple[str, str], int]
    end_ns: int


def assemble(
    workflow: str, seen: Seen
) -> tuple[tuple[Task, ...], tuple[Call, ...], tuple[ToolCall, ...], tuple[Edge, ...]]:
    """The records of a workflow, each kind in the order in which it began."""
    return _Assembly(workflow, seen).records()


def task_record(workflow: str, task: TaskRun, runs: Runs, end_ns: int) -> Task:
    """What a trace keeps of a task; one that never ended was cancelled at ``end_ns``."""
    return Task(
        id=task.id,
        workflow=workflow,
        node=task.node,
        graph_instance=_instance_name(task, runs),
        step=task.context.step,
        start_ns=task.start_ns,
        end_ns=end_ns if task.end_ns is None else task.end_ns,
        error="cancelled" if task.end_ns is None else task.error,
    )


def _instance_name(task: TaskRun, runs: Runs) -> str:
    """The task that runs the graph, and which of its graphs it is where it runs several."""
    owner = runs.tasks.get((task.turn, task.context.owner or ""))
    number = task.context.namespace.rpartition("|")[2]
    name = owner.id if owner else task.context.namespace
    return f"{name}.{number}" if number.isdigit() else name


class _Assembly:
    def __init__(self, workflow: str, seen: Seen) -> None:
        self._workflow = workflow
        self._runs = seen.runs
        self._end_ns = seen.end_ns
        self._seen = seen
        self._tasks = list(seen.runs.tasks.values())
        self._tools = {id(tool): f"tool {i}" for i, tool in enumerate(seen.runs.tools.values())}
        self._spans = dict(self._tools)
        """Of every tool, its own or that of its tool call."""
        self._answers: dict[str, tuple[Attempt, list[Call]]] = {}
        """Requests and the calls that answer each."""
        for call, attempt in seen.calls:
            self._answers.setdefault(attempt.id, (attempt, []))[1].append(call)
        self._busy: set[str] = set()
        """Tasks and tools that made calls, ran tools or ran graphs."""

    def records(self) -> tuple[tuple[Task, ...], tuple[Call, ...], tuple[ToolCall, ...], tuple[Edge, ...]]:
        tasks = tuple(task_record(self._workflow, task, self._runs, self._end_ns) for task in self._tasks)
        calls = tuple(call for call, _ in sorted(self._seen.calls, key=lambda pair: (pair[0].submit_ns, pair[0].id)))
        containers = [*self._task_spans(), *self._graph_spans()]
        call_spans = [self._call_span(call, attempt) for call, attempt in self._seen.calls]
        # Last, as a tool call is what nothing else was found inside of.
        tool_calls, tool_spans = self._tool_calls()
        executions = [Execution(task.id, task.turn, task.context) for task in self._tasks]
        barrier, trigger = links(executions, self._seen.writes, self._seen.steps)
        spans = [*containers, *call_spans, *tool_spans]
        return tasks, calls, tool_calls, edges(spans, barrier, trigger, self._streamed(), self._left())

    def _streamed(self) -> Iterator[Start]:
        """What began on part of an answer. Where all of it had come, the times of both say what there is to say."""
        begun = [(call.id, call.submit_ns, attempt.begun_on) for call, attempt in self._seen.calls]
        begun += [(task.id, task.start_ns, task.begun_on) for task in self._tasks]
        begun += [(self._spans[id(tool)], tool.start_ns, tool.begun_on) for tool in self._runs.tools.values()]
        for target, start_ns, parts in begun:
            for call, tokens, most in self._read(parts):
                if not (call.end_ns <= start_ns and tokens >= most):
                    yield call.id, target, tokens

    def _left(self) -> Iterator[Start]:
        """Tasks that ended when they had read part of an answer that went on without them."""
        for task in self._tasks:
            for call, tokens, _ in self._read(part for part in task.left if not self._read_on(task, part)):
                if call.end_ns > self._ended(task):
                    yield call.id, task.id, tokens

    def _read_on(self, task: TaskRun, part: Part) -> bool:
        source, taken = part
        attempt, (first, *_) = self._answers[source]
        return attempt.read_on(task.id, taken, whole=first.error is None)

    def _read(self, parts: Iterable[Part]) -> Iterator[tuple[Call, int, int]]:
        """Each answer of which something was read: how many tokens of it, and how many came in all."""
        for source, taken in parts:
            attempt, calls = self._answers[source]
            body = attempt.pieces()
            counts = zip(calls, tokens_in(body, taken, calls), tokens_in(body, len(body), calls), strict=False)
            yield from ((call, tokens, most) for call, tokens, most in counts if tokens)

    def _task_spans(self) -> list[Span]:
        spans = []
        for task in self._tasks:
            parent: str | None = self._graph_id(task)
            if task.context.functional:
                parent = self._holder(self._runs.around(task.parent)) or self._owner(task)
            end_ns = self._end_ns if task.end_ns is None else task.end_ns
            spans.append(Span(task.id, parent, task.start_ns, end_ns, "task"))
        return spans

    def _graph_spans(self) -> list[Span]:
        members: dict[str, list[TaskRun]] = {}
        for task in self._tasks:
            if not task.context.functional:
                members.setdefault(self._graph_id(task), []).append(task)
        spans = []
        for id, tasks in members.items():
            parent = None
            if tasks[0].context.namespace:
                parent = self._holder(self._runs.around(tasks[0].parent)) or self._owner(tasks[0])
            start_ns = min(task.start_ns for task in tasks)
            end_ns = max(self._end_ns if task.end_ns is None else task.end_ns for task in tasks)
            spans.append(Span(id, parent, start_ns, end_ns, "graph"))
        return spans

    def _call_span(self, call: Call, attempt: Attempt) -> Span:
        parent = self._holder(self._runs.around(attempt.run)) or attempt.task
        self._busy.add(parent)
        return Span(call.id, parent, call.submit_ns, call.end_ns, "vertex")

    def _tool_calls(self) -> tuple[tuple[ToolCall, ...], list[Span]]:
        """Tools and nodes that did all their work themselves, however short: edges must not depend on speed.

        A tool that made calls is only a span around them.
        """
        spans: list[Span] = []
        found: list[tuple[int, str, ToolRun | TaskRun]] = []
        parents = {id(tool): self._holder(self._runs.around(tool.parent)) for tool in self._runs.tools.values()}
        for tool in self._runs.tools.values():
            parent = parents[id(tool)] or tool.task.id
            self._busy.update((parent, tool.task.id))
        for tool in self._runs.tools.values():
            parent, name = parents[id(tool)] or tool.task.id, self._tools[id(tool)]
            if name in self._busy:
                spans.append(Span(name, parent, tool.start_ns, self._ended(tool), "task"))
            else:
                found.append((tool.start_ns, parent, tool))
        found += [
            (task.start_ns, task.id, task)
            for task in self._tasks
            if task.id not in self._busy and task.context.node != ENTRY
        ]
        tool_calls = []
        for number, (start_ns, parent, run) in enumerate(sorted(found, key=lambda item: item[:2])):
            task = run.task if isinstance(run, ToolRun) else run
            made = ToolCall(
                id=f"{self._workflow}/t{number:03d}",
                workflow=self._workflow,
                task=task.id,
                node=task.node,
                name=run.name if isinstance(run, ToolRun) else task.context.node,
                start_ns=start_ns,
                end_ns=self._ended(run),
                error=run.error if run.end_ns is not None else "cancelled",
            )
            tool_calls.append(made)
            if isinstance(run, ToolRun):
                self._spans[id(run)] = made.id
            spans.append(Span(made.id, parent, made.start_ns, made.end_ns, "vertex"))
        return tuple(tool_calls), spans

    def _ended(self, run: ToolRun | TaskRun) -> int:
        return self._end_ns if run.end_ns is None else run.end_ns

    def _owner(self, task: TaskRun) -> str | None:
        owner = self._runs.tasks.get((task.turn, task.context.owner or ""))
        return self._holder(owner)

    def _holder(self, run: ToolRun | TaskRun | None) -> str | None:
        """The id of the span that holds something, which makes it busy."""
        if run is None:
            return None
        id_ = run.id if isinstance(run, TaskRun) else self._tools[id(run)]
        self._busy.add(id_)
        return id_

    @staticmethod
    def _graph_id(task: TaskRun) -> str:
        return f"graph {task.turn} {task.context.namespace}"

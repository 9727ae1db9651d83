"""LangChain's callbacks of one workflow: when its tasks and tools ran, and which run was part of which."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langgraph.errors import GraphBubbleUp

from rejoule.graphs.capture.guard import Guard
from rejoule.graphs.capture.reading import Chain, Part, Readings, began, ended
from rejoule.graphs.capture.task_context import (
    UNNAMED,
    CodeContext,
    TaskContext,
    current_context,
    marked_agent,
    task_context_of,
)
from rejoule.graphs.places.hands import Control, control


@dataclass(eq=False, slots=True)
class TaskRun:
    """One execution of a node, retries of the node included."""

    id: str
    turn: int
    context: TaskContext
    start_ns: int
    outer: UUID | None = None
    """The LangChain run that is the node itself."""
    parent: UUID | None = None
    """The run that this one is part of."""
    end_ns: int | None = None
    error: str | None = None
    begun_on: tuple[Part, ...] = ()
    """What had been read, where it began, of answers that were still coming."""
    left: tuple[Part, ...] = ()
    """What it had read, where it ended, of answers that were still coming: what follows it begins on that."""
    node: str = ""
    """Path of names of what is around it, tools that run graphs included: ``tools/research/model``."""
    agent: str | None = None
    marked: str | None = None
    """LangChain's name of the agent around, which whatever is below inherits."""


@dataclass(eq=False, slots=True)
class ToolRun:
    """One execution of a LangChain tool inside a task."""

    name: str
    task: TaskRun
    start_ns: int
    parent: UUID | None
    end_ns: int | None = None
    error: str | None = None
    begun_on: tuple[Part, ...] = ()
    told: frozenset[str] = frozenset()
    """Values of its arguments that are texts."""


@dataclass(eq=False)
class Runs(BaseCallbackHandler):
    """Follows one workflow. Handlers run where the work runs, so that they see, and may set, its context."""

    prefix: str
    now: Callable[[], int]
    described: Callable[[BaseException], str]
    finished: Callable[[TaskRun], None]
    guard: Guard
    turn: int = 0
    subgraphs: Mapping[str, str] = field(default_factory=dict)
    """Names of graphs that are nodes and have one, by the paths of those nodes."""
    tasks: dict[tuple[int, str], TaskRun] = field(default_factory=dict)
    tools: dict[UUID, ToolRun] = field(default_factory=dict)
    run_inline = True
    raise_error = True

    def __post_init__(self) -> None:
        self._parents: dict[UUID, UUID | None] = {}
        self._task_of: dict[UUID, TaskRun] = {}
        self._detached: dict[UUID | None, int] = {}
        self._begun_in: dict[UUID, Control] = {}
        self.readings = Readings(self._task_here, self.guard)
        self._named: dict[UUID, str | None] = {}

    def task(self, context: TaskContext, parent: UUID | None = None, marked: str | None = None) -> TaskRun:
        """The execution of this task in this turn; ``parent`` is the run of its graph."""
        with self.guard:
            key = self.turn, context.id
            if key not in self.tasks:
                id = f"{self.prefix}/n{len(self.tasks):03d}"
                nested = self._nested(context, parent)
                task = self.tasks[key] = TaskRun(id, self.turn, nested, self.now(), marked=marked)
                task.node, task.agent = place(nested, self._owning(context, parent), self._graph(parent), marked)
            return self.tasks[key]

    def _task_here(self) -> str | None:
        """The execution that the running code is part of."""
        here = current_context()
        task = None if here is None else self.tasks.get((self.turn, here.task.id))
        return None if task is None else task.id

    def named(self, id: str) -> TaskRun | None:
        """The execution with this id."""
        with self.guard:
            return next((task for task in reversed(self.tasks.values()) if task.id == id), None)

    def disown(self, guard: Guard) -> None:
        """In a forked process, whose other threads are gone: what they held is free."""
        self.guard = self.readings.guard = guard

    def _owning(self, context: TaskContext, parent: UUID | None) -> ToolRun | TaskRun | None:
        """The tool or task that runs the graph of a task."""
        around = None if context.functional else self.around(parent)
        return around or self.tasks.get((self.turn, context.owner or ""))

    def _graph(self, run: UUID | None) -> str | None:
        """A graph's own name, by its run; ``None`` without one."""
        task = self._task_of.get(run) if run is not None else None
        if task is not None and task.outer == run:
            # The run of a graph that is a node has the name of the node.
            return self.subgraphs.get(task.node)
        return self._named.get(run) if run is not None else None

    def _nested(self, context: TaskContext, parent: UUID | None) -> TaskContext:
        """The context with the task around it.

        A graph that a node runs on a thread of its own does not know what is around it; the runs do.
        """
        around = self.around(parent)
        task = around.task if isinstance(around, ToolRun) else around
        if task is None or context.functional or context.owner == task.context.id:
            return context
        graph = self._detached.setdefault(parent, len(self._detached))
        outer = "|".join(filter(None, [task.context.namespace, f"{task.context.node}:{task.context.id}", str(graph)]))
        return replace(context, namespace="|".join(filter(None, [outer, context.namespace])))

    def around(self, run: UUID | None) -> ToolRun | TaskRun | None:
        """The innermost tool or task that a run is, or is part of."""
        while run is not None:
            if run in self.tools:
                return self.tools[run]
            if self._is_span(run):
                return self._task_of[run]
            run = self._parents.get(run)
        return None

    def chain(self, run: UUID | None) -> Chain:
        """The runs around something in ``run``, up to the tool or task that it is part of."""
        found: dict[UUID, Control] = {}
        while run is not None and run in self._begun_in and not self._is_span(run):
            found[run] = self._begun_in[run]
            run = self._parents.get(run)
        return found

    def _is_span(self, run: UUID) -> bool:
        return run in self.tools or ((task := self._task_of.get(run)) is not None and task.outer == run)

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        if parent_run_id is None and (around := current_context()) is not None:
            # Its callbacks were replaced, and the link to the run around it with them.
            parent_run_id = around.run
        self._parents[run_id], self._begun_in[run_id] = parent_run_id, control()
        self._named[run_id] = rest.get("name")
        began(run_id)
        context = task_context_of(metadata)
        if context is None:
            return
        task = self._task_of[run_id] = self.task(context, parent_run_id, marked_agent(metadata))
        if parent_run_id is None or self._task_of.get(parent_run_id) is not task:
            task.outer, task.parent, task.end_ns, task.error = run_id, parent_run_id, None, None
            task.begun_on = self.readings.here(self.chain(parent_run_id))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **rest: Any) -> None:
        ended(run_id)
        task = self._task_of.get(run_id)
        if task is not None and task.outer == run_id:
            self._end(task, None)
            self.finished(task)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **rest: Any) -> None:
        ended(run_id)
        task = self._task_of.get(run_id)
        if task is not None and task.outer == run_id:
            self._end(task, error)

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        self._parents[run_id] = parent_run_id
        context = task_context_of(metadata)
        if context is not None:
            name = (serialized or {}).get("name") or rest.get("name") or "tool"
            task = self._task_of[run_id] = self.task(context)
            begun_on, told = self.readings.here(self.chain(parent_run_id)), _texts(rest.get("inputs"))
            self.tools[run_id] = ToolRun(name, task, self.now(), parent_run_id, begun_on=begun_on, told=told)

    def on_tool_end(self, output: Any, *, run_id: UUID, **rest: Any) -> None:
        if run_id in self.tools:
            self._end(self.tools[run_id], None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **rest: Any) -> None:
        if run_id in self.tools:
            self._end(self.tools[run_id], error)

    def _end(self, run: TaskRun | ToolRun, error: BaseException | None) -> None:
        # Interrupts and commands to the parent graph travel as exceptions, and are none.
        run.error = None if error is None or isinstance(error, GraphBubbleUp) else self.described(error)
        run.end_ns = self.now()
        if isinstance(run, TaskRun):
            run.left = self.readings.leave(run.id)
            if run.left:
                # What it dropped is let go now, as without a recording, and not whenever garbage is collected next.
                gc.collect()

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,
        messages: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        context = task_context_of(metadata)
        SPOKEN.set(None if context is None else (self, CodeContext(context, parent_run_id)))

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        self.on_chat_model_start(
            serialized, prompts, run_id=run_id, parent_run_id=parent_run_id, metadata=metadata, **rest
        )

    def on_llm_end(self, response: Any, *, run_id: UUID, **rest: Any) -> None:
        SPOKEN.set(None)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **rest: Any) -> None:
        SPOKEN.set(None)


def _texts(arguments: object) -> frozenset[str]:
    found = arguments.values() if isinstance(arguments, Mapping) else ()
    return frozenset(value for value in found if isinstance(value, str))


def place(
    context: TaskContext, around: ToolRun | TaskRun | None, graph: str | None, marked: str | None
) -> tuple[str, str | None]:
    """A task's path of names, and its agent.

    ``around`` runs the task's graph, whose own name is ``graph``; ``marked`` is the agent that LangChain's metadata
    names, which is inherited. A graph without any name is part of the agent of the node that runs it, but behind a
    tool it is an agent without a name.
    """
    if around is None or context.functional:
        return context.names, marked or (around.agent if isinstance(around, TaskRun) else None)
    tool = around if isinstance(around, ToolRun) else None
    outer = around.task if isinstance(around, ToolRun) else around
    own = graph if graph not in UNNAMED else None
    if marked is not None and marked != outer.marked:
        agent: str | None = marked
    else:
        agent = own or (None if tool else outer.agent)
    path = [outer.node]
    if tool is not None:
        path.append(tool.name)
        if agent in tool.told:
            # One tool for several agents, which is told which.
            path.append(agent or "")
    return "/".join([*path, context.node]), agent


SPOKEN: ContextVar[tuple[Runs, CodeContext] | None] = ContextVar("rejoule_spoken", default=None)
"""Where a LangChain model that is about to send was called from; known even in a thread without any context."""

"""Which node execution the running code belongs to, as LangGraph's context tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

SEND = "__pregel_push"
"""First word of the path of a task that a Send, or the functional API, started."""

NAMESPACE = "langgraph_checkpoint_ns"

UNNAMED = (None, "", "LangGraph")
"""What a graph is called that was given no name."""


@dataclass(frozen=True, slots=True)
class TaskContext:
    """One task of one graph instance, in LangGraph's own words."""

    id: str
    namespace: str
    """Of its graph instance: ``outer:<task>|inner:<task>``; empty for the root graph."""
    node: str
    step: int
    triggers: tuple[str, ...]
    path: tuple[Any, ...]

    @property
    def names(self) -> str:
        """Its node with the nodes around it: ``research/answer``."""
        owners = [part.partition(":")[0] for part in self.namespace.split("|") if ":" in part]
        return "/".join([*owners, self.node])

    @property
    def owner(self) -> str | None:
        """The task that runs its graph instance; ``None`` in the root graph."""
        # A task that runs several graphs numbers them: "caller:<task>|1".
        owners = [part.rpartition(":")[2] for part in self.namespace.split("|") if ":" in part]
        return owners[-1] if owners else None

    @property
    def handles_error(self) -> bool:
        """Started in the same superstep, because the task at the same path had failed."""
        return "node_error_handler" in self.path

    @property
    def functional(self) -> bool:
        """Called by another task as a function, and awaited there; it takes part in no superstep."""
        return self.path[:1] == (SEND,) and len(self.path) == 4

    @property
    def send(self) -> int | None:
        """Which of the Sends of the step before started it."""
        return self.path[1] if self.path[:1] == (SEND,) and len(self.path) == 3 else None


@dataclass(frozen=True, slots=True)
class CodeContext:
    """A task, and the LangChain run in it that the code is part of."""

    task: TaskContext
    run: UUID | None


def task_context_of(metadata: Mapping[str, Any] | None) -> TaskContext | None:
    """The task that a run's metadata names."""
    if not metadata or NAMESPACE not in metadata:
        return None
    namespace, _, leaf = str(metadata[NAMESPACE]).rpartition("|")
    return TaskContext(
        id=leaf.rpartition(":")[2],
        namespace=namespace,
        node=metadata["langgraph_node"],
        step=metadata["langgraph_step"],
        triggers=tuple(metadata["langgraph_triggers"]),
        path=tuple(metadata["langgraph_path"]),
    )


def marked_agent(metadata: Mapping[str, Any] | None) -> str | None:
    """The agent that LangChain says a run is part of; graphs below it inherit the mark."""
    name = (metadata or {}).get("lc_agent_name")
    return name if isinstance(name, str) and name else None


def subgraph_names(graph: Pregel[Any, Any, Any, Any]) -> dict[str, str]:
    """Names of graphs that are nodes and were given one, by the paths of those nodes."""
    found = ((namespace.replace("|", "/"), inner.name) for namespace, inner in graph.get_subgraphs(recurse=True))
    return {path: name for path, name in found if name not in UNNAMED}


def current_context() -> CodeContext | None:
    """The place of the running code; ``None`` outside any node, or in a thread that knows no context."""
    from langgraph.config import get_config

    try:
        config = get_config()
    except RuntimeError:
        return None
    task = task_context_of(config.get("metadata"))
    if task is None:
        return None
    run = getattr(config.get("callbacks"), "parent_run_id", None)
    return CodeContext(task, run)

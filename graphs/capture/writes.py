"""Which node execution wrote which channel: the evidence for what triggered what.

A checkpointer is told every write with the id of its task, control channels included; LangGraph's callbacks and
streams hide those. The names ``__pregel_tasks`` and ``branch:to:…`` are LangGraph's own: `edges` relies on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.memory import InMemorySaver

NO_CONTROL = frozenset({"__interrupt__", "__resume__", "__error__", "__scheduled__"})
"""Channels whose writes say how a task fared, and wake nobody."""


@dataclass(frozen=True, slots=True)
class TaskWrites:
    """What one task wrote in one step of one graph instance."""

    namespace: str
    checkpoint: str
    task: str
    path: str
    """Where LangGraph sorts it among the tasks of its step."""
    channels: tuple[str, ...]


class ByReference:
    """A serializer that keeps objects as they are.

    A graph without a checkpointer may hold anything in its state, locks and clients included; recording must not
    make it fail.
    """

    def dumps_typed(self, obj: Any) -> tuple[str, Any]:
        return "reference", obj

    def loads_typed(self, data: tuple[str, Any]) -> Any:
        return data[1]


class WriteLog(InMemorySaver):
    """A checkpointer in memory that remembers which task wrote which channel."""

    def __init__(self, instead_of: Any = None, *, resumable: bool = False) -> None:
        """Takes the place of a graph's own checkpointer, so that nothing is written to the user's database."""
        if isinstance(instead_of, BaseCheckpointSaver):
            super().__init__(serde=instead_of.serde)
        else:
            super().__init__(serde=None if resumable else ByReference())
        self.steps: dict[tuple[str, str], int] = {}
        self.rows: list[TaskWrites] = []

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        at = config["configurable"]
        self.steps[at.get("checkpoint_ns", ""), checkpoint["id"]] = metadata["step"]
        return super().put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        channels = tuple(channel for channel, _ in writes)
        if set(channels) - NO_CONTROL:
            at = config["configurable"]
            place = at.get("checkpoint_ns", ""), at["checkpoint_id"]
            self.rows.append(TaskWrites(*place, task_id, task_path, channels))
        super().put_writes(config, writes, task_id, task_path)

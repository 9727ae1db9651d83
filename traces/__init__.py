"""Recorded workflows and measured runs: the stored truth that every other package reads."""

from rejoule.traces.errors import RejouleError
from rejoule.traces.model import Call, Edge, Header, PromptPart, Task, ToolCall, Trace, Workflow

__all__ = ["Call", "Edge", "Header", "PromptPart", "RejouleError", "Task", "ToolCall", "Trace", "Workflow"]

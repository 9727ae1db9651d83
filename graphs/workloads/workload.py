"""What a workload offers, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from rejoule.traces.errors import RejouleError

if TYPE_CHECKING:
    from langgraph.graph import StateGraph
    from openai import AsyncOpenAI

    from rejoule.graphs.corpus import Corpus

WORKLOADS = ("sequential", "interactive", "agentic", "composite")


@dataclass(frozen=True)
class Workload:
    """A graph to record: its sizes, its builder, and the inputs of its workflows.

    ``build(client, model, settings, corpus)`` gives the uncompiled graph.
    ``inputs(settings, corpus, seed, index)`` gives the input of workflow number ``index``, equal for equal arguments.
    """

    name: str
    summary: str
    settings: type[Any]
    build: Callable[[AsyncOpenAI, str, Any, Corpus], StateGraph[Any, Any, Any, Any]]
    inputs: Callable[[Any, Corpus, int, int], dict[str, Any]]


def load(name: str) -> Workload:
    """The workload of that name."""
    if name not in WORKLOADS:
        raise RejouleError(f"there is no workload {name!r}", f"choose one of {', '.join(WORKLOADS)}")
    workload = import_module(f"rejoule.graphs.workloads.{name}").WORKLOAD
    assert isinstance(workload, Workload)
    return workload

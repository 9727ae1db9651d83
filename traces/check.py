"""Invariants of a trace: every record in its place, edges acyclic and in agreement with time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from rejoule.traces.model import Call, EdgeSet, Task, ToolCall, Trace, Workflow

EDGE_SETS: tuple[EdgeSet, ...] = ("barrier", "trigger")

MOST_TOKENS = 10**9
"""More than this no call reads or writes."""


def problems(trace: Trace) -> list[str]:
    """What is wrong with a trace, one sentence each; empty when it is sound."""
    times = Counter(w.id for w in trace.workflows)
    found = [f"workflow {name} was recorded {count} times" for name, count in times.items() if count > 1]
    found += [f"{u.what}: {u.requests} requests" for u in trace.unrecorded if not 0 < u.requests <= MOST_TOKENS]
    for workflow in trace.workflows:
        found += list(_impossible(workflow)) or list(_misplaced(workflow)) or list(_contradictory(workflow))
    return found


def _impossible(workflow: Workflow) -> Iterator[str]:
    if workflow.arrival_ns < 0:
        yield f"{workflow.id} arrived before the recording began"
    if workflow.end_ns < workflow.arrival_ns:
        yield f"{workflow.id} ended before it arrived"
    members: list[Task | Call | ToolCall] = [*workflow.tasks, *workflow.calls, *workflow.tool_calls]
    for member in members:
        if member.start_ns < 0:
            yield f"{member.id} began before the recording"
        if not member.node:
            yield f"{member.id} names no node"
    for call in workflow.calls:
        for name in ("prompt_tokens", "cached_tokens", "output_tokens", "pieces"):
            if (count := getattr(call, name)) is not None and not 0 <= count <= MOST_TOKENS:
                yield f"{call.id} has {count} {name.replace('_', ' ')}"
        if (
            call.prompt_tokens is not None
            and call.cached_tokens is not None
            and call.cached_tokens > call.prompt_tokens
        ):
            yield f"{call.id} has more cached tokens than prompt tokens"
        if call.first_token_ns is not None and call.first_token_ns < call.submit_ns:
            yield f"{call.id} had its first token before it was sent"
        if any(at < 0 for at in call.chunk_ns):
            yield f"{call.id} had a chunk before it was sent"
        if not _are_messages(call.request.get("messages", [])):
            yield f"the messages of {call.id} are no list of messages"


def _are_messages(found: Any) -> bool:
    return _are_objects(found) and all(_are_objects(message.get("tool_calls") or []) for message in found)


def _are_objects(found: Any) -> bool:
    return isinstance(found, list | tuple) and all(isinstance(item, dict) for item in found)


def _misplaced(workflow: Workflow) -> Iterator[str]:
    members: list[Task | Call | ToolCall] = [*workflow.tasks, *workflow.calls, *workflow.tool_calls]
    for name, count in Counter(m.id for m in members).items():
        if count > 1:
            yield f"{name} was recorded {count} times"
    for member in members:
        if member.workflow != workflow.id:
            yield f"{member.id} says workflow {member.workflow}, and lies in {workflow.id}"
        if member.end_ns < member.start_ns:
            yield f"{member.id} ended before it began"
    tasks = {t.id for t in workflow.tasks}
    for vertex in workflow.vertices.values():
        if vertex.task not in tasks:
            yield f"{vertex.id} belongs to task {vertex.task}, which was not recorded"
    for edge in workflow.edges:
        for end in (edge.source, edge.target):
            if end not in workflow.vertices:
                yield f"an edge joins {end}, which workflow {workflow.id} does not have"


def _contradictory(workflow: Workflow) -> Iterator[str]:
    for edge_set in EDGE_SETS:
        try:
            waits_for = workflow.predecessors(edge_set)
            TopologicalSorter({v: (*waits_for[v], *workflow.streamed.get(v, ())) for v in waits_for}).prepare()
        except CycleError as error:
            yield f"the {edge_set} edges of {workflow.id} go round in a cycle: {' → '.join(error.args[1])}"
    for edge in workflow.edges:
        if edge.kind == "streamed":
            if not isinstance(workflow.vertices[edge.source], Call):
                yield f"{edge.target} began on part of the answer of {edge.source}, which is no call"
            if edge.tokens is None or not 0 < edge.tokens <= MOST_TOKENS:
                yield f"{edge.target} began once {edge.tokens} tokens of {edge.source} had come"
            if workflow.vertices[edge.source].start_ns > workflow.vertices[edge.target].start_ns:
                yield f"{edge.target} began before {edge.source} did, on whose answer it began"
        elif workflow.vertices[edge.source].end_ns > workflow.vertices[edge.target].start_ns:
            yield f"{edge.target} began before {edge.source} ended, against their {edge.kind} edge"

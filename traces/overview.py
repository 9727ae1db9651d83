"""The figures of a trace: nodes, tokens, shared prefixes, critical paths."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import orjson

from rejoule.traces import dag
from rejoule.traces.model import Call, Trace, Workflow
from rejoule.traces.summary import total


def overview(trace: Trace) -> dict[str, Any]:
    """A trace in figures, as ``rejoule inspect --json`` prints it."""
    calls = list(trace.calls)
    return {
        "graph": trace.header.graph,
        "model": trace.header.model,
        "settings": dict(trace.header.settings),
        "workflows": len(trace.workflows),
        "calls": len(calls),
        "tool_calls": sum(len(w.tool_calls) for w in trace.workflows),
        "prompt_tokens": total(c.prompt_tokens for c in calls if c.succeeded),
        "cached_tokens": total(c.cached_tokens for c in calls if c.succeeded),
        "output_tokens": total(c.output_tokens for c in calls if c.succeeded),
        "shared_prompt_fraction": shared_fraction(calls),
        "nodes": [_node(name, [c for c in calls if c.node == name]) for name in trace.nodes],
        "each_workflow": [_workflow(w) for w in trace.workflows],
    }


def shared_fraction(calls: Sequence[Call]) -> float | None:
    """The share of all prompt characters that lie in a prefix which an earlier prompt of the trace began with.

    It is an upper bound on what a prefix cache without limits can save, measured on messages as sent.
    """
    seen: set[str] = set()
    whole = shared = 0
    for call in sorted(calls, key=lambda c: (c.submit_ns, c.id)):
        before, hit = "", True
        for piece in _pieces(call):
            before = _chained(before, piece)
            whole += len(piece)
            hit = hit and before in seen
            shared += len(piece) if hit else 0
            seen.add(before)
    return shared / whole if whole else None


def _pieces(call: Call) -> list[str]:
    prompt = call.request.get("prompt")
    if isinstance(prompt, str):
        return [prompt[i : i + 256] for i in range(0, len(prompt), 256)]
    found = [orjson.dumps(call.request["tools"]).decode()] if call.request.get("tools") else []
    for message in call.request.get("messages", ()):
        text = orjson.dumps(message).decode()
        found += [text[i : i + 256] for i in range(0, len(text), 256)]
    return found


def _chained(before: str, piece: str) -> str:
    return blake2b((before + piece).encode(), digest_size=16).hexdigest()


def _node(name: str, calls: Sequence[Call]) -> dict[str, Any]:
    good = [c for c in calls if c.succeeded]
    return {
        "node": name,
        "calls": len(calls),
        "failed_calls": len(calls) - len(good),
        "prompt_tokens": total(c.prompt_tokens for c in good),
        "cached_tokens": total(c.cached_tokens for c in good),
        "output_tokens": total(c.output_tokens for c in good),
    }


def _workflow(workflow: Workflow) -> dict[str, Any]:
    graph = dag.graph(workflow)
    path = dag.critical_path(graph)
    return {
        "id": workflow.id,
        "status": workflow.status,
        "calls": len(workflow.calls),
        "tool_calls": len(workflow.tool_calls),
        "depth": max(dag.depth(graph).values(), default=-1) + 1,
        "width": dag.width(graph),
        "duration_s": (workflow.end_ns - workflow.arrival_ns) / 1e9,
        "critical_path_s": sum(dag.recorded_s(workflow.vertices[v]) + workflow.gaps_ns[v] / 1e9 for v in path),
        "critical_path": path,
    }

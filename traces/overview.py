"""The figures of a trace: nodes, tokens, shared prefixes, critical paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson

from rejoule.traces import dag
from rejoule.traces.lineage import messages
from rejoule.traces.model import Call, Trace, Workflow
from rejoule.traces.summary import total
from rejoule.traces.work import account, counted_tokens, left_out

BLOCK: Final = 16
"""Tokens that a prefix cache shares at once, as vLLM's does by default."""


def overview(trace: Trace) -> dict[str, Any]:
    """A trace in figures, as ``rejoule inspect --json`` prints it."""
    calls = list(trace.calls)
    shared, unit = sharing(calls)
    return {
        "graph": trace.header.graph,
        "model": trace.header.model,
        "settings": dict(trace.header.settings),
        "edited": trace.edited,
        "workflows": len(trace.workflows),
        "success": successes(trace.workflows) if any(w.success is not None for w in trace.workflows) else None,
        **figures(calls),
        "tool_calls": sum(len(w.tool_calls) for w in trace.workflows),
        "shared_prompt_fraction": shared,
        "shared_prompt_unit": unit,
        "work": asdict(account(trace)),
        "models": [{"model": name, **figures([c for c in calls if _model(c) == name])} for name in _models(calls)],
        "nodes": [_node(name, [c for c in calls if c.node == name]) for name in trace.nodes],
        "agents": _agents(calls),
        "each_workflow": [_workflow(w) for w in trace.workflows],
    }


def sharing(calls: Sequence[Call]) -> tuple[float | None, str | None]:
    """The most of all prompts that a prefix cache without limits can hit, and what that is a share of.

    Of those that a replay does: a share of ``tokens`` where all of them have their prompt's token ids, of
    ``characters`` otherwise.
    """
    good = [call for call in calls if left_out(call) is None]
    if all(call.prompt_token_ids for call in good):
        pairs: list[tuple[Sequence[Any], Sequence[Any]]]
        pairs = [(call.prompt_token_ids or (), call.token_ids or ()) for call in good]
        unit = "tokens"
    else:
        pairs = [(_rendered(call), call.text or "") for call in good]
        unit = "characters"
    whole = sum(len(prompt) for prompt, _ in pairs)
    return (_hits(pairs) / whole, unit) if whole else (None, None)


def _hits(pairs: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> int:
    """Of prompts with their outputs, the most elements that lie in cached blocks, in whatever order they are run.

    As a prefix cache does, it shares whole blocks that all that precedes is equal of, and never a prompt's last
    element. A block that no call wrote has to be computed by one of the prompts that hold it.
    """
    number: dict[tuple[int, Sequence[Any]], int] = {}
    held: Counter[int] = Counter()
    hittable: Counter[int] = Counter()
    written: set[int] = set()
    for prompt, output in pairs:
        both = (*prompt, *output) if isinstance(prompt, tuple) else f"{prompt}{output}"
        before = -1
        for start in range(0, len(both) - BLOCK + 1, BLOCK):
            before = number.setdefault((before, both[start : start + BLOCK]), len(number))
            if start + BLOCK > len(prompt):
                written.add(before)
                continue
            held[before] += 1
            hittable[before] += start + BLOCK < len(prompt)
    return BLOCK * sum(min(hittable[block], held[block] - (block not in written)) for block in held)


def _rendered(call: Call) -> str:
    """A prompt as one text, which the next one of a conversation begins with, and the answer before it."""
    tools = orjson.dumps(call.request["tools"]).decode() if call.request.get("tools") else ""
    said = "".join(f"\n{role}: {text}" if role else text for role, text in messages(call.request))
    return tools + said + ("\nassistant: " if "messages" in call.request else "")


def _model(call: Call) -> str:
    return str(call.request.get("model") or "not named")


def _models(calls: Sequence[Call]) -> Sequence[str]:
    return list(dict.fromkeys(map(_model, calls)))


def _agents(calls: Sequence[Call]) -> list[dict[str, Any]]:
    """In the order in which they first called; empty where no agent is named."""
    names = dict.fromkeys(call.agent for call in calls)
    if not any(names):
        return []
    return [{"agent": name, **figures([c for c in calls if c.agent == name])} for name in names]


def _node(name: str, calls: Sequence[Call]) -> dict[str, Any]:
    return {"node": name, **figures(calls)}


def figures(calls: Sequence[Call]) -> dict[str, int | None]:
    """Counts of calls, and of the tokens of those that the server began to answer, whatever became of them.

    One that was refused or got no answer was counted by nobody, and is in ``failed_calls``; ``None`` where the server
    did not count one that it answered.
    """
    begun = [c for c in calls if c.status == 200]
    return {
        "calls": len(calls),
        "failed_calls": sum(not c.succeeded for c in calls),
        "prompt_tokens": total(c.prompt_tokens for c in begun),
        "cached_tokens": total(c.cached_tokens for c in begun),
        "output_tokens": total(counted_tokens(c) for c in begun),
    }


def successes(workflows: Iterable[Workflow]) -> dict[str, int]:
    """How many reached their goal, how many did not, and of how many nobody knows."""
    told = Counter(workflow.success for workflow in workflows)
    return {"yes": told[True], "no": told[False], "unknown": told[None]}


def words_of(successes: Mapping[str, int]) -> str:
    """The same in a sentence."""
    unknown = f", of {successes['unknown']} it is not known" if successes["unknown"] else ""
    return f"success: {successes['yes']} of {sum(successes.values())} workflows{unknown}"


def _workflow(workflow: Workflow) -> dict[str, Any]:
    graph = dag.graph(workflow)
    path = dag.critical_path(graph)
    return {
        "id": workflow.id,
        "status": workflow.status,
        "success": workflow.success,
        "calls": len(workflow.calls),
        "tool_calls": len(workflow.tool_calls),
        "depth": max(dag.depth(graph).values(), default=-1) + 1,
        "width": dag.width(graph),
        "duration_s": (workflow.end_ns - workflow.arrival_ns) / 1e9,
        "critical_path_s": dag.length_s(graph, path),
        "critical_path": path,
    }

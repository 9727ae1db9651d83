"""A load of all four workloads: the kept workflows many times over, alike but not equal, and some tools take long.

Written as a trace: python -m benchmarks.mix COPIES SEED FILE.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from random import Random
from statistics import NormalDist
from typing import Final

from rejoule.traces.loops import renamed
from rejoule.traces.model import Call, ToolCall, Trace, Workflow
from rejoule.traces.store import load, save

DATA: Final = Path(__file__).parent / "h200" / "workloads"
TAIL: Final = ((0.86, 1.0), (0.95, 10.0))
"""Shares of an agent's calls that follow the one before within so many seconds (vllm-project/router#286)."""
MOST_S: Final = 30.0
"""Longer tools would be most of a replay's time."""
APART_NS: Final = 50_000_000
STEP: Final = 7919
TOKENS: Final = 32000


def mix(copies: int, seed: int) -> Trace:
    """``copies`` of every kept workflow, in a random order, with tool times of their own."""
    traces = {path.name.partition(".")[0]: load(path) for path in sorted((DATA / "traces").iterdir())}
    found = [
        timed(varied(workflow, shared, k, f"{name}-{workflow.id}-{k}"), seed)
        for name, trace in sorted(traces.items())
        for shared in [shared_tokens(trace.workflows)]
        for workflow in trace.workflows
        for k in range(copies)
    ]
    Random(seed).shuffle(found)
    # A stored trace has its workflows by their arrivals.
    placed = tuple(arriving(workflow, i * APART_NS) for i, workflow in enumerate(found))
    return replace(next(iter(traces.values())), workflows=placed)


def arriving(workflow: Workflow, at_ns: int) -> Workflow:
    """As a whole so much later or sooner."""
    by_ns = at_ns - workflow.arrival_ns

    def moved_tool(tool: ToolCall) -> ToolCall:
        return replace(tool, start_ns=tool.start_ns + by_ns, end_ns=tool.end_ns + by_ns)

    return replace(
        workflow,
        arrival_ns=at_ns,
        end_ns=workflow.end_ns + by_ns,
        tasks=tuple(replace(t, start_ns=t.start_ns + by_ns, end_ns=t.end_ns + by_ns) for t in workflow.tasks),
        calls=tuple(moved(call, by_ns) for call in workflow.calls),
        tool_calls=tuple(map(moved_tool, workflow.tool_calls)),
    )


def shared_tokens(workflows: Sequence[Workflow]) -> dict[str, int]:
    """By call, how much of its prompt's beginning a call of another workflow has as well."""
    prompts = sorted((tuple(call.prompt_token_ids or ()), w.id, call.id) for w in workflows for call in w.calls)
    found = dict.fromkeys((name for _, _, name in prompts), 0)
    for i, (ids, own, name) in enumerate(prompts):
        for beside in (prompts[:i][::-1], prompts[i + 1 :]):
            other = next((other for other, workflow, _ in beside if workflow != own), ())
            found[name] = max(found[name], common(ids, other))
    return found


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two prompts begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def varied(workflow: Workflow, shared: dict[str, int], copy: int, name: str) -> Workflow:
    """A copy of its own: other tokens than in the others, but for what workflows share, and the same quotes."""

    def own(ids: Sequence[int], alike: int = 0) -> tuple[int, ...]:
        return (*ids[:alike], *((i + STEP * copy) % TOKENS for i in ids[alike:]))

    calls = tuple(
        replace(c, prompt_token_ids=own(c.prompt_token_ids or (), shared[c.id]), token_ids=own(c.token_ids or ()))
        for c in workflow.calls
    )
    return renamed(replace(workflow, calls=calls), lambda old: old.replace(workflow.id, name, 1))


def timed(workflow: Workflow, seed: int) -> Workflow:
    """With tool times of a long tail; whatever follows begins as much later or sooner."""
    source = Random(f"{seed}:{workflow.id}")
    new: dict[str, Call | ToolCall] = {}
    for name, vertex in workflow.vertices.items():
        waited = [new[p].end_ns for p in workflow.predecessors()[name]]
        start_ns = max(waited, default=workflow.arrival_ns) + workflow.gaps_ns[name]
        if isinstance(vertex, ToolCall):
            new[name] = replace(vertex, start_ns=start_ns, end_ns=start_ns + round(1e9 * tool_s(source)))
        else:
            new[name] = moved(vertex, start_ns - vertex.start_ns)
    ordered = sorted(new.values(), key=lambda v: v.start_ns)
    return replace(
        workflow,
        calls=tuple(v for v in ordered if isinstance(v, Call)),
        tool_calls=tuple(v for v in ordered if isinstance(v, ToolCall)),
        end_ns=max(v.end_ns for v in ordered),
    )


def moved(call: Call, by_ns: int) -> Call:
    first_ns = call.first_token_ns
    return replace(
        call,
        submit_ns=call.submit_ns + by_ns,
        end_ns=call.end_ns + by_ns,
        first_token_ns=None if first_ns is None else first_ns + by_ns,
    )


def tool_s(source: Random) -> float:
    """A log-normal time with the shares of ``TAIL``."""
    (low, low_s), (high, high_s) = TAIL
    low_z, high_z = NormalDist().inv_cdf(low), NormalDist().inv_cdf(high)
    sigma = log(high_s / low_s) / (high_z - low_z)
    return min(MOST_S, source.lognormvariate(log(low_s) - sigma * low_z, sigma))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    save(mix(int(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3]))

"""Synthetic runs and traces with a known truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any

from rejoule.traces.model import Call, Edge, Header, Task, ToolCall, Trace, Vertex, Workflow
from rejoule.traces.run import (
    CallResult,
    Certificate,
    Configuration,
    Energy,
    PowerCap,
    Run,
    Step,
    ToolResult,
    WorkflowResult,
)

CHAIN = ("plan", "write", "review")
DIAMOND = ("plan", "left", "right", "join")


@dataclass(frozen=True)
class Truth:
    """The affine engine that made-up runs follow."""

    step_j: float = 4.0
    decode_token_j: float = 0.5
    prefill_token_j: float = 0.05
    step_s: float = 0.02
    idle_w: float = 80.0


def trace(workflows: int = 3, graph: str = "agentic", nodes: Sequence[str] = CHAIN) -> Trace:
    """Workflows whose calls form a chain, with a tool call after the first."""
    return Trace(Header(graph, "made-up-8b"), tuple(_workflow(f"{graph}-{i}", i, nodes) for i in range(workflows)))


def _workflow(name: str, number: int, nodes: Sequence[str]) -> Workflow:
    start = number * 500_000_000
    calls, edges = [], []
    for i, node in enumerate(nodes):
        begin = start + i * 1_000_000_000
        request = {"messages": [{"role": "user", "content": "x"}]}
        calls.append(
            Call(f"{name}.{i}", name, f"{name}.t{i}", node, "chat", request, begin, begin + 800_000_000, status=200)
        )
        if i:
            edges.append(Edge(f"{name}.{i - 1}", f"{name}.{i}", "barrier"))
    first = calls[0].end_ns
    tool = ToolCall(f"{name}.tool", name, f"{name}.tt", nodes[0], "search", first, first + 100_000_000)
    edges.append(Edge(calls[0].id, tool.id, "observed"))
    vertices: tuple[Vertex, ...] = (*calls, tool)
    return Workflow(
        name,
        "made-up",
        start,
        calls[-1].end_ns,
        tasks=tuple(Task(v.task, name, v.node, "", i, v.start_ns, v.end_ns) for i, v in enumerate(vertices)),
        calls=tuple(calls),
        tool_calls=(tool,),
        edges=tuple(edges),
    )


def run(
    source: Trace,
    batch: int | None = 8,
    cap_w: float | None = None,
    trial: int = 0,
    truth: Truth | None = None,
    name: str = "agentic",
    engine: str = "sim",
    energy_source: str = "model:made-up",
    scale: float = 1.0,
    digest: str = "same",
    tier: Any = "tokens",
) -> Run:
    """A replay on an engine that serves ``batch`` calls at a time, prefill first, one token a step."""
    truth = truth or Truth()
    steps, calls = _serve(source, batch or 256, truth, scale)
    workflows, tools = [], []
    for workflow in source.workflows:
        mine = [c for c in calls if c.workflow == workflow.id]
        workflows.append(WorkflowResult(workflow.id, workflow.graph, mine[0].due_s, max(c.end_s for c in mine)))
        tool = workflow.tool_calls[0]
        tools.append(ToolResult(tool.id, workflow.id, tool.node, tool.name, mine[0].end_s, mine[0].end_s + 0.1))
    return Run(
        id=f"{name}-b{batch}-c{cap_w}-t{trial}",
        trace=name,
        trace_digest="d",
        configuration=Configuration(engine=engine, profile="made-up", max_num_seqs=batch, power_cap_w=cap_w),
        trial=trial,
        makespan_s=steps[-1].end_s,
        calls=tuple(calls),
        workflows=tuple(workflows),
        tools=tuple(tools),
        energy=Energy(
            gpu_j=fsum(s.energy_j or 0.0 for s in steps),
            idle_j=fsum(s.energy_j or 0.0 for s in steps if s.idle),
            source={"gpu": energy_source},
        ),
        power_cap=PowerCap(cap_w, cap_w, None if cap_w is None else 0.25 if cap_w < 400 else 0.0),
        certificate=Certificate(tier, digest, len(calls)),
        steps=tuple(steps),
        engine={"gpus": 1},
    )


def with_agents(found: Run, agents: Mapping[str, str | None]) -> Run:
    """The run as if these agents had made the calls of these nodes, and nobody those of others."""
    return replace(found, calls=tuple(replace(call, agent=agents.get(call.node)) for call in found.calls))


def _serve(source: Trace, batch: int, truth: Truth, scale: float) -> tuple[list[Step], list[CallResult]]:
    waiting = {c.id: c for w in source.workflows for c in w.calls}
    before = {c.id: w.calls[i - 1].id if i else None for w in source.workflows for i, c in enumerate(w.calls)}
    sent: dict[str, float] = {}
    first: dict[str, float] = {}
    left: dict[str, int] = {}
    done: dict[str, float] = {}
    steps: list[Step] = []
    now = 0.0

    def add(seconds: float, joules: float, prefill: Any = (), decode: Any = ()) -> float:
        busy = bool(prefill or decode)
        steps.append(Step(now, now + seconds, int(busy), joules * scale, None, None, tuple(prefill), tuple(decode)))
        return now + seconds

    while len(done) < len(before):
        for call in waiting.values():
            earlier = before[call.id]
            ready = source_arrival(source, call) if earlier is None else done.get(earlier, float("inf"))
            if call.id not in sent and ready <= now:
                sent[call.id] = ready
        new = [c for c in sent if c not in left and c not in done][: max(0, batch - len(left))]
        if new:
            prefill = [(c, prompt_tokens(c), 16) for c in new]
            decode = [(c, 1) for c in left]
            cost = truth.step_j + truth.prefill_token_j * sum(p[1] for p in prefill)
            now = add(truth.step_s * 2, cost + truth.decode_token_j * len(decode), prefill, decode)
            for c in list(left):
                left[c] -= 1
            for c in new:
                first[c], left[c] = now, output_tokens(c)
        elif left:
            now = add(truth.step_s, truth.step_j + truth.decode_token_j * len(left), (), [(c, 1) for c in left])
            for c in left:
                left[c] -= 1
        else:
            arrivals = [source_arrival(source, w.calls[0]) for w in source.workflows if w.calls[0].id not in sent]
            seconds = min(arrivals) - now
            now = add(seconds, truth.idle_w * seconds)
        for c in [c for c, tokens in left.items() if tokens <= 0]:
            done[c] = now
            del left[c]
    now = add(0.5, truth.idle_w * 0.5)
    return steps, [
        CallResult(
            c.id,
            c.workflow,
            c.node,
            sent[c.id],
            sent[c.id],
            done[c.id],
            first[c.id],
            prompt_tokens(c.id) + 16,
            16,
            output_tokens(c.id),
        )
        for c in source.calls
    ]


def source_arrival(source: Trace, call: Call) -> float:
    return next(w.arrival_ns for w in source.workflows if w.id == call.workflow) / 1e9


def prompt_tokens(call: str) -> int:
    return 100 + 37 * (sum(map(ord, call)) % 11)


def output_tokens(call: str) -> int:
    return 5 + sum(map(ord, call)) % 23


def grid(
    names: Mapping[str, Trace], batches: Sequence[int | None], caps: Sequence[float | None], trials: int = 1
) -> list[Run]:
    """A run for every trace, batch size, cap and trial; caps below 400 W bind and save a little."""
    return [
        run(source, batch, cap, trial, name=name, scale=0.9 if cap is not None and cap < 400 else 1.0)
        for name, source in names.items()
        for batch in batches
        for cap in caps
        for trial in range(trials)
    ]

"""Traces made up for tests: yours too."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from rejoule.traces.model import Call, Edge, EdgeKind, Header, Task, ToolCall, Trace, Workflow

MS = 1_000_000


def made_call(
    workflow: str,
    name: str,
    start_ms: float,
    end_ms: float,
    *,
    prompt: str = "Say something.",
    prompt_tokens: int = 32,
    output_tokens: int = 8,
    status: int = 200,
) -> Call:
    """A call of node ``name`` whose token ids are made up from its prompt and its name."""
    return Call(
        id=f"{workflow}/{name}",
        workflow=workflow,
        task=f"{workflow}/n-{name}",
        node=name.split(".")[0],
        endpoint="chat",
        request={"model": "made-up", "messages": [{"role": "user", "content": prompt}], "max_tokens": output_tokens},
        submit_ns=round(start_ms * MS),
        end_ns=round(end_ms * MS),
        status=status,
        error=None if status == 200 else "boom",
        text=f"an answer of {name}",
        finish_reason="stop",
        prompt_token_ids=tuple(random.Random(prompt).choices(range(1000, 2000), k=prompt_tokens)),
        token_ids=tuple(random.Random(name).choices(range(2000, 3000), k=output_tokens)),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        cached_tokens=0,
        first_token_ns=round((start_ms + (end_ms - start_ms) / 4) * MS),
    )


def made_tool(workflow: str, name: str, start_ms: float, end_ms: float) -> ToolCall:
    return ToolCall(
        id=f"{workflow}/{name}",
        workflow=workflow,
        task=f"{workflow}/n-{name}",
        node=name,
        name=name,
        start_ns=round(start_ms * MS),
        end_ns=round(end_ms * MS),
    )


def made_workflow(
    vertices: Sequence[Call | ToolCall],
    edges: Mapping[EdgeKind, Sequence[tuple[str, str]]],
    *,
    streamed: Sequence[tuple[str, str, int]] = (),
    name: str = "w0000",
    arrival_ms: float = 0,
) -> Workflow:
    """A workflow of these calls and tool calls, with one task for each; edges are given by short names.

    ``streamed`` ones have the tokens of the source on which the target began.
    """
    vertices = sorted(vertices, key=lambda v: (v.start_ns, v.id))
    tasks = tuple(Task(v.task, name, v.node, "", i, v.start_ns, v.end_ns) for i, v in enumerate(vertices))
    return Workflow(
        id=name,
        graph="made-up",
        arrival_ns=round(arrival_ms * MS),
        end_ns=max((v.end_ns for v in vertices), default=round(arrival_ms * MS)),
        input={"topic": "tests"},
        tasks=tasks,
        calls=tuple(v for v in vertices if isinstance(v, Call)),
        tool_calls=tuple(v for v in vertices if isinstance(v, ToolCall)),
        edges=tuple(
            Edge(f"{name}/{source}", f"{name}/{target}", kind)
            for kind, pairs in edges.items()
            for source, target in pairs
        )
        + tuple(
            Edge(f"{name}/{source}", f"{name}/{target}", "streamed", tokens) for source, target, tokens in streamed
        ),
    )


def made_trace(workflows: Sequence[Workflow]) -> Trace:
    return Trace(Header(graph="made-up", model="made-up", rejoule_version="0"), tuple(workflows))


def random_trace(seed: int, *, workflows: int = 3, vertices: int = 8) -> Trace:
    """A trace of random layered workflows: calls and tool calls, shared prompts, forks and joins."""
    source = random.Random(seed)
    return made_trace([_random_workflow(source, f"w{i:04}", i * 40.0, vertices) for i in range(workflows)])


def _random_workflow(source: random.Random, name: str, arrival_ms: float, vertices: int) -> Workflow:
    end_ms: dict[str, float] = {}
    made: list[Call | ToolCall] = []
    trigger: list[tuple[str, str]] = []
    barrier: list[tuple[str, str]] = []
    for i in range(source.randint(1, vertices)):
        sources = source.sample(sorted(end_ms), k=min(len(end_ms), source.randint(0, 3)))
        waits = max([end_ms[s] for s in sources], default=arrival_ms)
        extra = [s for s in end_ms if s not in sources and end_ms[s] <= waits and source.random() < 0.3]
        start_ms = waits + source.choice([0.0, 1.0, 7.5])
        tool = bool(made) and source.random() < 0.25
        short = f"{'t' if tool else 'c'}{i:03}"
        end_ms[short] = start_ms + source.uniform(1, 50)
        if tool:
            made.append(made_tool(name, short, start_ms, end_ms[short]))
        else:
            made.append(
                made_call(
                    name,
                    short,
                    start_ms,
                    end_ms[short],
                    prompt=f"prompt {source.randint(0, 3)}",
                    prompt_tokens=source.randint(1, 300),
                    output_tokens=source.randint(1, 40),
                )
            )
        trigger += [(s, short) for s in sources]
        barrier += [(s, short) for s in [*sources, *extra]]
    return made_workflow(made, {"trigger": trigger, "barrier": barrier}, name=name, arrival_ms=arrival_ms)

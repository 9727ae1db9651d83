"""Small random loads of workflows whose calls share prompts, and what is planted in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from rejoule.traces import Trace
from rejoule.traces.model import Call, ToolCall
from rejoule.traces.testing import made_call, made_tool, made_trace, made_workflow

PROFILES: Final = ("h200-llama-3.1-8b", "a100-llama-3.1-8b", "h100-qwen3-8b", "h200-data-sheet-qwen3-30b-a3b")
VOCABULARY: Final = (1000, 30_000)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a random load is like, beside its lengths."""

    workflows: int
    apart_ms: float
    """Between arrivals, in the mean."""
    shared: int
    """Tokens that all prompts begin with."""
    tool_ms: float
    """0 for no tools."""


def trace_of(shape: Shape, seed: int) -> Trace:
    draw = Random(seed)
    common = [draw.randrange(*VOCABULARY) for _ in range(shape.shared)]
    nodes = [(f"node{i}", draw.randint(60, 900), draw.randint(20, 160)) for i in range(draw.randint(2, 3))]
    made, arrival_ms = [], 0.0
    for number in range(shape.workflows):
        name, at = f"w{number:04}", arrival_ms
        vertices, edges = list[Call | ToolCall](), list[tuple[str, str]]()
        before = ""
        for step, (node, prompt, output) in enumerate(nodes):
            call = _call(name, f"{node}.{step}", at, common, prompt, output, draw)
            vertices.append(call)
            edges += [(before, f"{node}.{step}")] if before else []
            at, before = at + 50.0, f"{node}.{step}"
            if shape.tool_ms and step == 0:
                length_ms = shape.tool_ms * draw.uniform(0.5, 1.5)
                vertices.append(made_tool(name, "lookup", at, at + length_ms))
                edges.append((before, "lookup"))
                at, before = at + length_ms, "lookup"
        made.append(made_workflow(vertices, {"trigger": edges, "barrier": edges}, name=name, arrival_ms=arrival_ms))
        arrival_ms += draw.expovariate(1.0 / shape.apart_ms) if shape.apart_ms else 0.0
    return made_trace(made)


def _call(workflow: str, name: str, at_ms: float, common: list[int], prompt: int, output: int, draw: Random) -> Call:
    found = made_call(workflow, name, at_ms, at_ms + 50.0, prompt_tokens=1, output_tokens=1)
    own = [draw.randrange(*VOCABULARY) for _ in range(round(prompt * draw.uniform(0.5, 1.5)))]
    answer = [draw.randrange(*VOCABULARY) for _ in range(round(output * draw.uniform(0.5, 1.5)))]
    ids = (*common, *own)
    return replace(
        found, prompt_token_ids=ids, token_ids=tuple(answer), prompt_tokens=len(ids), output_tokens=len(answer)
    )

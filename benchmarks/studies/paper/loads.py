"""The paper's kinds of workflows, made of those that were recorded from vLLM and are kept: the same bytes every time.

Each load is many copies of recorded workflows, with tokens of their own; what their prompts share they share still,
unless a load is to share nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.mix import APART_NS, DATA, arriving, shared_tokens, varied

from rejoule.traces.model import Trace, Workflow
from rejoule.traces.runs import load_runs

WORKFLOWS: Final = 48
"""Of a load: three for each of 16 users."""


@dataclass(frozen=True)
class Load:
    """Which recorded workflows, and how many copies."""

    name: str
    recorded: str
    """The kept trace."""
    kept: Callable[[Workflow], bool]
    count: int
    shares: bool = True


def _chain(workflow: Workflow) -> bool:
    return all(call.node == "refine" for call in workflow.calls)


def _any(workflow: Workflow) -> bool:
    return True


LOADS: Final = (
    Load("chain", "sequential", _chain, WORKFLOWS),
    Load("map-reduce", "sequential", lambda w: not _chain(w), WORKFLOWS),
    Load("interactive", "interactive", _any, WORKFLOWS),
    Load("interactive-apart", "interactive", _any, WORKFLOWS, shares=False),
    Load("agentic", "agentic", _any, WORKFLOWS),
    Load("composite", "composite", _any, WORKFLOWS // 2),
    Load("one-chain", "sequential", _chain, 1),
)


def traces() -> dict[str, Trace]:
    """All loads by name."""
    kept = load_runs(DATA).traces
    return {load.name: _made(load, kept[load.recorded]) for load in LOADS}


def _made(load: Load, recorded: Trace) -> Trace:
    flows = [w for w in recorded.workflows if load.kept(w)]
    shared = shared_tokens(recorded.workflows) if load.shares else {c.id: 0 for w in flows for c in w.calls}
    # Alike ones lie apart, so that users have different ones at a time.
    copies = [varied(flows[i % len(flows)], shared, i, f"{load.name}-{i:03}") for i in range(load.count)]
    return replace(recorded, workflows=_placed(copies))


def _placed(flows: Sequence[Workflow]) -> tuple[Workflow, ...]:
    return tuple(arriving(workflow, i * APART_NS) for i, workflow in enumerate(flows))

"""Writes a trace of calls of given sizes with random token ids, in lanes that each make one call after another.

Usage: uniform_trace.py OUT NODE=LANESxCALLSxINxOUT ...     as in: decode=32x4x64x512 prefill=1x340x2000x4
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rejoule.traces import Call, Header, RejouleError, Trace, Workflow
from rejoule.traces.model import Edge, Task
from rejoule.traces.store import save

VOCABULARY = range(1000, 31000)


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls of one size: ``lanes`` at a time, ``calls`` in each lane."""

    node: str
    lanes: int
    calls: int
    prompt_tokens: int
    output_tokens: int


def uniform_trace(kinds: list[Kind], seed: int = 0) -> Trace:
    """Each lane is a workflow; no two prompts share a beginning."""
    source = random.Random(seed)
    lanes = [kind for kind in kinds for _ in range(kind.lanes)]
    workflows = tuple(_lane(kind, f"{kind.node}{i:04d}", source) for i, kind in enumerate(lanes))
    return Trace(Header(graph="uniform", model="any"), workflows)


def _lane(kind: Kind, name: str, source: random.Random) -> Workflow:
    calls = tuple(_call(kind, name, i, source) for i in range(kind.calls))
    edges = tuple(Edge(a.id, b.id, "observed") for a, b in pairwise(calls))
    task = Task(f"{name}/n000", name, kind.node, "", 0, 0, calls[-1].end_ns)
    return Workflow(name, "uniform", 0, calls[-1].end_ns, tasks=(task,), calls=calls, edges=edges)


def _call(kind: Kind, lane: str, number: int, source: random.Random) -> Call:
    prompt = tuple(source.choices(VOCABULARY, k=kind.prompt_tokens))
    return Call(
        id=f"{lane}/c{number:03d}",
        workflow=lane,
        task=f"{lane}/n000",
        node=kind.node,
        endpoint="completions",
        request={"model": "any", "prompt": list(prompt), "temperature": 0.8, "max_tokens": kind.output_tokens},
        submit_ns=number,
        end_ns=number + 1,
        status=200,
        finish_reason="length",
        prompt_token_ids=prompt,
        token_ids=tuple(source.choices(VOCABULARY, k=kind.output_tokens)),
        prompt_tokens=kind.prompt_tokens,
        output_tokens=kind.output_tokens,
    )


def kind(word: str) -> Kind:
    """``NODE=LANESxCALLSxINxOUT`` as calls of one size."""
    node, _, sizes = word.partition("=")
    try:
        lanes, calls, prompt, output = (int(size) for size in sizes.split("x"))
    except ValueError:
        raise RejouleError(f"{word!r} is no size", "give NODE=LANESxCALLSxINxOUT, as in decode=32x4x64x512") from None
    return Kind(node, lanes, calls, prompt, output)


if __name__ == "__main__":
    save(uniform_trace([kind(word) for word in sys.argv[2:]]), Path(sys.argv[1]))

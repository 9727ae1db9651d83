"""Writes a trace of independent calls of one size with random token ids: uniform_trace.py OUT [CALLS IN OUT]."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from rejoule.traces import Call, Header, Task, Trace, Workflow
from rejoule.traces.store import save

VOCABULARY = range(1000, 31000)


def uniform_trace(calls: int, prompt_tokens: int, output_tokens: int, seed: int = 0) -> Trace:
    """Each call is a workflow of its own; no two prompts share a beginning."""
    source = random.Random(seed)
    workflows = []
    for i in range(calls):
        name = f"w{i:04d}"
        prompt = tuple(source.choices(VOCABULARY, k=prompt_tokens))
        call = Call(
            id=f"{name}/c000",
            workflow=name,
            task=f"{name}/n000",
            node="answer",
            endpoint="completions",
            request={"model": "any", "prompt": list(prompt), "temperature": 0.8, "max_tokens": output_tokens},
            submit_ns=0,
            end_ns=1,
            status=200,
            finish_reason="length",
            prompt_token_ids=prompt,
            token_ids=tuple(source.choices(VOCABULARY, k=output_tokens)),
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
        )
        task = Task(f"{name}/n000", name, "answer", "", 0, 0, 1)
        workflows.append(Workflow(name, "uniform", 0, 1, tasks=(task,), calls=(call,)))
    return Trace(Header(graph="uniform", model="any"), tuple(workflows))


if __name__ == "__main__":
    sizes = [int(word) for word in sys.argv[2:]] or [320, 512, 128]
    save(uniform_trace(*sizes), Path(sys.argv[1]))

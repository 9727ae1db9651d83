"""The three loads, as ReJoule's traces and in the forms that the other clients read."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from rejoule.replay.arrivals import arrival_times
from rejoule.traces import Workflow
from rejoule.traces.model import Call, ToolCall
from rejoule.traces.store import save
from rejoule.traces.testing import made_call, made_trace, made_workflow

WORDS = (
    "agent",
    "plans",
    "tools",
    "energy",
    "replay",
    "trace",
    "prompt",
    "cache",
    "batch",
    "power",
    "the",
    "of",
    "and",
)
PROMPT, OUTPUT, STEP_MS = 48, 8, 10.0
RATE, PACED = 100, 2000
TREES, CALLS = 1000, 10


@dataclass(frozen=True, slots=True)
class Loads:
    """Where the files of each load are."""

    fan: Path
    """1,000 trees of ten calls, as fast as 32 in flight allow."""
    chain: Path
    """2,000 calls, each waiting for the one before."""
    paced: Path
    """2,000 calls that arrive as a Poisson process, 100 a second."""
    paced_due_s: tuple[float, ...]
    aiperf_fan: Path
    aiperf_chain: Path
    aiperf_paced: Path
    guidellm_paced: Path


def write_loads(folder: Path, *, seed: int = 1) -> Loads:
    """Makes the files of every load."""
    source = random.Random(seed)
    flows = [_call_alone(source, i) for i in range(PACED)]
    due_s = arrival_times(flows, f"poisson:{RATE}", time_scale=1.0, seed="0:0")
    loads = Loads(
        fan=folder / "fan.jsonl.zst",
        chain=folder / "chain.jsonl.zst",
        paced=folder / "paced.jsonl.zst",
        paced_due_s=tuple(due_s),
        aiperf_fan=folder / "aiperf_fan.jsonl",
        aiperf_chain=folder / "aiperf_chain.jsonl",
        aiperf_paced=folder / "aiperf_paced.jsonl",
        guidellm_paced=folder / "guidellm_paced.jsonl",
    )
    save(made_trace([_tree(source, i) for i in range(TREES)]), loads.fan)
    save(made_trace([_chain(source, 2000)]), loads.chain)
    save(made_trace(flows), loads.paced)
    trees = [conversation for i in range(TREES) for conversation in _conversations(source, i)]
    _write(loads.aiperf_fan, trees)
    _write(loads.aiperf_chain, [{"session_id": "chain", "turns": [_turn(source) for _ in range(500)]}])
    _write(
        loads.aiperf_paced,
        [{"timestamp": round(t * 1e3, 3), "messages": _messages(source), "output_length": OUTPUT} for t in due_s],
    )
    _write(loads.guidellm_paced, [{"timestamp": t, "input_length": PROMPT, "output_length": OUTPUT} for t in due_s])
    return loads


def _prompt(source: random.Random) -> str:
    return " ".join(source.choices(WORDS, k=PROMPT))


def _call(source: random.Random, workflow: str, i: int) -> Call:
    # Back to back as recorded, so that no time of the client's own is waited out.
    start_ms = i * STEP_MS
    return made_call(
        workflow, f"c{i:04}", start_ms, start_ms + STEP_MS, prompt=_prompt(source), prompt_tokens=PROMPT,
        output_tokens=OUTPUT,
    )  # fmt: skip


def _workflow(source: random.Random, name: str, calls: int, edges: Sequence[tuple[int, int]]) -> Workflow:
    vertices: list[Call | ToolCall] = [_call(source, name, i) for i in range(calls)]
    pairs = [(f"c{a:04}", f"c{b:04}") for a, b in edges]
    return made_workflow(vertices, {"barrier": pairs, "trigger": pairs}, name=name)


def _tree(source: random.Random, i: int) -> Workflow:
    return _workflow(source, f"w{i:04}", CALLS, [((k - 1) // 2, k) for k in range(1, CALLS)])


def _chain(source: random.Random, calls: int) -> Workflow:
    return _workflow(source, "w0000", calls, [(k, k + 1) for k in range(calls - 1)])


def _call_alone(source: random.Random, i: int) -> Workflow:
    return _workflow(source, f"w{i:04}", 1, [])


def _messages(source: random.Random) -> list[dict[str, str]]:
    return [{"role": "user", "content": _prompt(source)}]


def _turn(source: random.Random, **more: Any) -> dict[str, Any]:
    extra = {"ignore_eos": True, "min_tokens": OUTPUT}
    return {"messages": _messages(source), "max_tokens": OUTPUT, "extra": extra, **more}


def _conversations(source: random.Random, i: int) -> list[dict[str, Any]]:
    # Ten turns in four conversations: AIPerf's trees fork conversations, not calls.
    turns = [_turn(source, spawns=[f"r{i}a", f"r{i}b"]), _turn(source, spawns=[f"r{i}c"]), _turn(source)]
    children = [
        {"session_id": f"r{i}{name}", "turns": [_turn(source) for _ in range(length)]}
        for name, length in (("a", 2), ("b", 2), ("c", 3))
    ]
    return [{"session_id": f"r{i}", "turns": turns}, *children]


def _write(path: Path, rows: Sequence[Any]) -> None:
    path.write_bytes(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))

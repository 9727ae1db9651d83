"""How fast the step engine is, and how much memory it needs: ``python -m benchmarks.simulator [--json] [CALLS ...]``.

Calls of 2048 prompt tokens and 256 output tokens, no two alike, saturate the engine, with the prefix cache on. Each
size runs in processes of its own: the step engine alone, with the records of all steps and without, and as a replay has
it, with recorded calls in and digests, answers and steps out. Seconds are of the process's CPU, the best of five (of
one above 10,000 calls); the step engine gets its calls while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rejoule.replay.engines.sim import SimEngine
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.engine import StepEngine
from rejoule.replay.sim.jobs import SimRequest
from rejoule.replay.sim.shipped import compose
from rejoule.traces.model import Call, Header, Trace
from rejoule.traces.run import Configuration

PROFILE = compose("h200-data-sheet", "llama-3.1-8b")
PROMPT, OUTPUT = 2048, 256
AHEAD = 2048
"""Calls that wait or run at a time: twice the batch size."""
WAYS = ("engine", "records", "replay")
"""The step engine alone, with records, and within a replay."""
RECORDED = 10_000
"""The most calls to keep records of: each names the whole batch, so those of a long run belong on disk."""


def measure_engine(calls: int, keep_steps: bool) -> dict[str, Any]:
    """The step engine by itself: CPU seconds, peak memory of the process in MB, and what was simulated."""
    engine = StepEngine(EngineConfig(PROFILE), keep_steps)
    prompt, output = np.arange(PROMPT), np.arange(OUTPUT)
    base_mb = resident_mb()
    begin_s = time.process_time()
    sent = ended = 0
    while ended < calls:
        while sent < calls and sent - ended < AHEAD:
            engine.add(SimRequest(f"call-{sent}", _marked(prompt, sent), OUTPUT, _marked(output, sent)))
            sent += 1
        ended += sum(event.kind == "finished" for event in engine.advance())
    cpu_s = time.process_time() - begin_s
    return _found(calls, len(engine.log.records) if keep_steps else None, cpu_s, base_mb, engine.now_s)


def measure_replay(calls: int) -> dict[str, Any]:
    """The engine of a replay, from recorded calls to the steps of the run; the recorded calls are in memory before."""
    prompt, output = tuple(range(PROMPT)), tuple(range(OUTPUT))
    recorded = [
        Call(
            id=f"call-{i}", workflow="", task="", node="", endpoint="completions", request={}, submit_ns=0, end_ns=0,
            prompt_token_ids=(1_000_000 + i, *prompt[1:]), token_ids=(1_000_000 + i, *output[1:]),
        )
        for i in range(calls)
    ]  # fmt: skip
    serving = PROFILE.serving
    options = {name: getattr(serving, name) for name in ("max_num_batched_tokens", "num_gpu_blocks")}
    configuration = Configuration(max_num_seqs=serving.max_num_seqs, options=options)

    async def run() -> tuple[int, float]:
        engine = SimEngine(configuration, Trace(Header("", ""), ()))
        await engine.start()
        for call in recorded:
            engine.send(call, 0.0, 0.0)
        ended = 0
        while ended < calls:
            ended += len(await engine.wait(None))
        measured = await engine.finish()
        return len(measured.steps or ()), engine.now_s()

    base_mb = resident_mb()
    begin_s = time.process_time()
    records, simulated_s = asyncio.run(run())
    return _found(calls, records, time.process_time() - begin_s, base_mb, simulated_s)


def resident_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _found(calls: int, records: int | None, cpu_s: float, base_mb: float, simulated_s: float) -> dict[str, Any]:
    return {
        "calls": calls,
        "records": records,
        "cpu_s": cpu_s,
        "calls_per_s": calls / cpu_s,
        "peak_mb": resident_mb(),
        "base_mb": base_mb,
        "simulated_s": simulated_s,
        "tokens_per_s": calls * (PROMPT + OUTPUT) / cpu_s,
    }


def _marked(ids: np.ndarray[Any, np.dtype[np.int64]], number: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    own = ids.copy()
    own[0] = 1_000_000 + number
    return own


def _measure(calls: int, way: str) -> dict[str, Any]:
    return measure_replay(calls) if way == "replay" else measure_engine(calls, way == "records")


def _alone(calls: int, way: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.simulator", "--one", way, str(calls)]
    told = [
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for _ in range(5 if calls <= RECORDED else 1)
    ]
    return min(map(json.loads, told), key=lambda found: float(found["cpu_s"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", nargs="*", type=int, help="numbers of calls")
    parser.add_argument("--json", action="store_true", help="print one JSON object a run")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(arguments.calls[0], arguments.one)))
        return
    table = Table("calls", "what", "step records", "CPU s", "calls/s", "peak MB", "simulated s")
    for calls in arguments.calls or (1_000, 10_000, 100_000):
        for way in WAYS if calls <= RECORDED else WAYS[:1]:
            found = _alone(calls, way)
            if arguments.json:
                print(json.dumps({"what": way} | found))
            records = "none" if found["records"] is None else f"{found['records']:,}"
            table.add_row(
                f"{calls:,}",
                way,
                records,
                f"{found['cpu_s']:.2f}",
                f"{found['calls_per_s']:,.0f}",
                f"{found['peak_mb']:.0f}",
                f"{found['simulated_s']:,.0f}",
            )
    if not arguments.json:
        Console().print(table)


if __name__ == "__main__":
    main()

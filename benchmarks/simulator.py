"""How fast the step engine is, and how much memory it needs: ``python -m benchmarks.simulator [--json] [CALLS ...]``.

Calls of 2048 prompt tokens and 256 output tokens, no two alike, saturate the engine, with the prefix cache on. Each
size runs in a process of its own, once with the records of all steps and once without; seconds are of that process's
CPU, and the calls are handed over while it runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rejoule.replay.sim.engine import EngineConfig, StepEngine
from rejoule.replay.sim.profile import load_profile
from rejoule.replay.sim.scheduler import SimRequest

PROFILE = "h200-llama-3.1-8b"
PROMPT, OUTPUT = 2048, 256
AHEAD = 2048
"""Calls that wait or run at a time: twice the batch size."""


def measure(calls: int, keep_steps: bool) -> dict[str, Any]:
    """One run: CPU seconds, peak memory of the process in MB, and what was simulated."""
    engine = StepEngine(EngineConfig(load_profile(PROFILE)), keep_steps)
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
    return {
        "calls": calls,
        "records": len(engine.steps) if keep_steps else None,
        "cpu_s": cpu_s,
        "calls_per_s": calls / cpu_s,
        "peak_mb": resident_mb(),
        "base_mb": base_mb,
        "simulated_s": engine.now_s,
        "tokens_per_s": calls * (PROMPT + OUTPUT) / cpu_s,
    }


def resident_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _marked(ids: np.ndarray[Any, np.dtype[np.int64]], number: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    own = ids.copy()
    own[0] = 1_000_000 + number
    return own


def _alone(calls: int, keep_steps: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.simulator", "--one", str(calls), *(["--keep"] if keep_steps else [])]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("calls", nargs="*", type=int, help="numbers of calls")
    parser.add_argument("--json", action="store_true", help="print one JSON object a run")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.keep)))
        return
    table = Table("calls", "step records", "CPU s", "calls/s", "peak MB", "simulated s")
    for calls in arguments.calls or (1_000, 10_000, 100_000):
        # Every record names the whole batch, so those of a long run belong on disk.
        for keep in (True, False) if calls <= 10_000 else (False,):
            found = _alone(calls, keep)
            if arguments.json:
                print(json.dumps(found))
            records = "none" if found["records"] is None else f"{found['records']:,}"
            table.add_row(
                f"{calls:,}",
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

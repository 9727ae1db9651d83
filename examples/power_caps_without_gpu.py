"""An experiment of power caps × batch sizes, end to end, without a GPU: see docs/power-caps.md.

A stand-in for NVML plays an H200 with a limit of 650 W, and a stand-in for vLLM makes it draw power; all the rest is
what a real experiment does. The joules are no measurement of anything.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rejoule.replay.energy.fake import FakeGpu, create
from rejoule.replay.vllm.server.testing import install
from rejoule.traces.store import save
from rejoule.traces.testing import made_call, made_trace, made_workflow

FOUND_W = 650.0


def main(folder: Path, *more: str) -> None:
    """Makes the GPU, a trace and the runs in ``folder``, which must not exist; ``more`` goes to ``rejoule replay``."""
    if folder.exists():
        sys.exit(f"{folder} exists: remove it, or name another folder")
    gpu = create(folder / "nvml", [FakeGpu(requested_w=FOUND_W)])
    names = [f"w{i:04d}" for i in range(8)]
    calls = [made_call(name, "c0", 0, 10, prompt=name, prompt_tokens=2000, output_tokens=120) for name in names]
    workflows = [made_workflow([call], {}, name=name) for name, call in zip(names, calls, strict=True)]
    save(made_trace(workflows), folder / "load.jsonl")
    environment = {
        **os.environ,
        **install(folder / "site", version="0.28.0"),
        **gpu.environment,
        "REJOULE_STATE": str(folder / "state"),
    }

    def rejoule(*words: object) -> None:
        subprocess.run([sys.executable, "-m", "rejoule.replay", *map(str, words)], env=environment, check=True)

    knobs = ("--max-num-seqs", "1,8", "--power-cap", "none,300,450", "--arrivals", "burst", "--trials", 2)
    # A real GPU takes its time: leave these out there.
    hurry = ("settle_s=0.2", "cool_down_s=0.5", "idle_s=0", "warm_up=false")
    words = [word for option in hurry for word in ("--option", option)]
    engine = ("--engine", "vllm", "--option", "model=stand-in")
    rejoule("replay", folder / "load.jsonl", "-o", folder / "runs", *engine, *knobs, *words, *more)
    rejoule("report", folder / "runs", "-o", folder / "report.html")
    assert gpu.truth(0).requested_w == FOUND_W, "the limit from before is back"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "power-caps"), *sys.argv[2:])

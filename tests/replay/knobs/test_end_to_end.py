"""An experiment of power caps × batch sizes on stand-ins for NVML and vLLM."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

from rejoule.replay.energy.fake import FakeNvml
from rejoule.replay.vllm.server.testing import install
from rejoule.traces.refused import load_refused
from rejoule.traces.runs import load_runs

EXAMPLE = Path(__file__).parents[3] / "examples/power_caps_without_gpu.py"


def test_caps_by_batch_sizes(tmp_path: Path) -> None:
    """Every run shows its cap in force and how long it bound, the limit found is back, and a refused cap is told."""
    folder = tmp_path / "caps"
    knobs = ["--max-num-seqs", "4,8", "--trials", "1", "--power-cap"]
    done = subprocess.run(
        [sys.executable, EXAMPLE, folder, *knobs, "none,300"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    runs = load_runs(folder / "runs").runs
    wanted = set(product((4, 8), (None, 300)))
    assert {(r.configuration.max_num_seqs, r.configuration.power_cap_w) for r in runs} == wanted
    for run in runs:
        assert run.energy.source["gpu"] == "nvml-counter" and not run.certificate.violations
        assert run.power_cap.requested_w == run.configuration.power_cap_w
        assert run.power_cap.in_force_w == (run.configuration.power_cap_w or 650)
        assert run.power_cap.bound_fraction is not None
    for free, bound in zip(runs[::2], runs[1::2], strict=True):
        assert (free.power_cap.bound_fraction or 0) < (bound.power_cap.bound_fraction or 0)
        assert (bound.power_cap.bound_fraction or 0) > 0.2
    assert (folder / "report.html").exists()
    assert FakeNvml(folder / "nvml").truth(0).requested_w == 650

    again = [sys.executable, "-m", "rejoule.replay", "replay", str(folder / "load.jsonl")]
    again += [
        "-o",
        str(folder / "runs"),
        "--engine",
        "vllm",
        "--option",
        "model=stand-in",
        "--arrivals",
        "burst",
        *knobs,
        "900",
    ]
    environment = {**os.environ, **install(folder / "site", version="0.28.0"), **FakeNvml(folder / "nvml").environment}
    environment["REJOULE_STATE"] = str(folder / "state")
    done = subprocess.run(again, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "give 200 to 700 W" in done.stderr
    assert {r.configuration.power_cap_w for r in load_refused(folder / "runs")} == {900}
    assert len(load_runs(folder / "runs").runs) == 4

"""A quick calibration on a real vLLM, of a GPU that is a stand-in: from its grid to a profile that replays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from msgspec.structs import replace
from tests.vllm.loads import VOCABULARY

from rejoule.replay.calibration.calibrate import write_profile
from rejoule.replay.energy import fake
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile

pytestmark = pytest.mark.vllm

UUID = "GPU-11111111-0000-0000-0000-000000000000"
WATTS = 300.0


WIDTH, LAYERS = 128, 2
"""Of the tiny model."""


def tiny() -> Profile:
    """The tiny model on an H200: a parent that is wrong in all but the shape."""
    parent = load_profile("h200-llama-3.1-8b")
    weights = 16 * LAYERS * WIDTH**2
    model = replace(
        parent.model,
        hidden_size=WIDTH,
        layers=LAYERS,
        heads=2,
        kv_heads=1,
        head_dim=64,
        vocab_size=VOCABULARY,
        layer_parameters=weights,
        parameters=weights + 2 * VOCABULARY * WIDTH,
    )
    return replace(parent, name="tiny", model=model)


def test_quick(server: str, tmp_path: Path) -> None:
    """Its limits are asked for, watts are those of the stand-in, and what does not fit the parent is said."""
    fake.create(tmp_path / "nvml", [fake.FakeGpu(uuid=UUID, scenario=fake.Constant(WATTS))])
    environment = {**os.environ, "REJOULE_FAKE_NVML": str(tmp_path / "nvml"), "REJOULE_STATE": str(tmp_path / "state")}
    write_profile(tiny(), tmp_path / "tiny.json")

    def rejoule(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "rejoule.replay", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    words = ["--base", "tiny.json", "--max-num-seqs", "4", "--max-model-len", "1024", "--cell-s", "0.05", "--json"]
    done = rejoule("calibrate", "--quick", "-o", "mine.json", "--engine", server, *words)
    assert "8,192 tokens a step" in done.stderr  # what vLLM tells to nobody without its developer mode
    found = orjson.loads(done.stdout.splitlines()[-1])
    assert found["parent"] == "tiny" and found["provenance"]["gpus"] == UUID
    assert {"first token", "between tokens", "power"} <= found["errors"].keys()
    assert found["power"]["idle_w"] > tiny().power.idle_w
    assert any("do not trust the child" in note for note in found["notes"])
    rejoule("replay", "mine/grid.jsonl.zst", "-o", "sim", "--profile", "mine.json")
    assert "time between tokens" in rejoule("validate", "sim", "mine/runs").stdout

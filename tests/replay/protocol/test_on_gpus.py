"""The protocol where power is sampled: stand-in GPUs under the real sampler, a real HTTP server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.replay.protocol.test_preparation import TRACE, Served

from rejoule.replay.energy import fake
from rejoule.replay.engines.open import Engines
from rejoule.replay.protocol.preparation import Preparation
from rejoule.replay.replay import replay
from rejoule.traces.run import Configuration
from rejoule.traces.runs import PlannedRun


async def test_conditions_of_a_measured_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle power is what the GPU draws idle, and a run of less than 10 s says how many loops would do."""
    gpus = fake.create(tmp_path / "gpus", [fake.FakeGpu(scenario=fake.Constant(125.0))])
    monkeypatch.setenv("REJOULE_FAKE_NVML", str(gpus.path))
    monkeypatch.setenv("REJOULE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    options = {"warm_up_s": 0.3, "idle_s": 0.6}
    async with Served().url() as url, Engines(tmp_path / "servers") as engines:
        plan = PlannedRun("r", "t", Configuration(engine=url, loops=3, options=options), 0)
        run = await replay(TRACE, plan, "", engines.open, preparation=Preparation())
    held = run.conditions
    assert held is not None
    assert len(held.gpu_names) == len(held.gpus) == 1 and held.host
    assert held.bare_w is None
    assert held.loaded_w == pytest.approx(125, rel=0.05)
    assert held.after_w == pytest.approx(125, rel=0.2)
    assert held.warm_ups
    assert run.energy.source["gpu"] == "nvml-counter"
    assert any("--loops" in reason for reason in held.rejected)

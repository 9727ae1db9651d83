"""Loops and warm-up on a server that ReJoule starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rejoule.replay.energy import fake
from rejoule.replay.engines.open import Engines
from rejoule.replay.protocol.preparation import Preparation
from rejoule.replay.replay import replay
from rejoule.replay.vllm.server.testing import Behaviour, install
from rejoule.traces.loops import pass_of
from rejoule.traces.run import Configuration
from rejoule.traces.runs import PlannedRun
from rejoule.traces.testing import random_trace


def test_warm_passes_on_a_cold_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a warm-up every pass of a run is exact, and finds in the prefix cache what a cold one can hold."""
    for name, value in {**install(tmp_path / "site"), **Behaviour().env()}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("REJOULE_VLLM_PYTHON", raising=False)
    # Where GPUs are, the stand-in for vLLM has joules to measure instead of modelled ones.
    monkeypatch.setenv("REJOULE_FAKE_NVML", str(fake.create(tmp_path / "gpus").path))
    monkeypatch.setenv("REJOULE_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "model").mkdir()
    trace = random_trace(2, workflows=2, vertices=4)
    options = {"model": str(tmp_path / "model"), "tier": "spliced", "warm_up_s": 2, "idle_s": 0}

    async def runs() -> None:
        preparation = Preparation()
        async with Engines(tmp_path / "servers") as engines:
            digests = set()
            for batch in (2, 2):
                configuration = Configuration(
                    engine="vllm", max_num_seqs=batch, loops=2, arrivals="burst", time_scale=0, options=options
                )
                plan = PlannedRun("r", "t", configuration, 0)
                run = await replay(trace, plan, "", engines.open, preparation=preparation)
                assert run.certificate.violations == ()
                assert run.certificate.exact_calls == len(run.calls) == 2 * len(list(trace.calls))
                cached = [sum(c.cached_tokens or 0 for c in run.calls if pass_of(c.id) == k) for k in (1, 2)]
                assert cached[0] == cached[1]
                assert run.conditions is not None
                digests.add(run.certificate.digest)
                warm_ups.append(bool(run.conditions.warm_ups))
            assert len(digests) == 1

    warm_ups: list[bool] = []
    asyncio.run(runs())
    assert warm_ups == [True, False]

"""A run on a server of this machine, its GPUs sampled: stand-in GPUs that a real HTTP server loads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from benchmarks.gpu.remeasure import began_s, remeasured
from benchmarks.gpu.taken_again import off_by

from rejoule.replay.energy import fake
from rejoule.replay.energy.processes import Process, foreign
from rejoule.replay.engines.open import Engines
from rejoule.replay.replay import replay
from rejoule.traces.by_gpu import by_gpu
from rejoule.traces.run import Configuration, Energy, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.store import trace_digest
from rejoule.traces.testing import random_trace

BUSY_W, IDLE_W, CALL_S = 500.0, 80.0, 0.3


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fake.FakeNvml:
    device = fake.create(tmp_path / "gpus", [fake.FakeGpu(idle_w=IDLE_W)])
    monkeypatch.setenv("REJOULE_FAKE_NVML", str(device.path))
    return device


@asynccontextmanager
async def served(gpus: fake.FakeNvml) -> AsyncIterator[str]:
    """A server whose GPU is busy as long as it answers anyone."""
    calls = 0

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "owned_by": "vllm"}]})

    async def chat(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        tokens = (await request.json())["max_tokens"]
        calls += 1
        gpus.drive(0, BUSY_W)
        await asyncio.sleep(CALL_S)
        calls -= 1
        if not calls:
            gpus.drive(0, IDLE_W)
        response = web.StreamResponse()
        await response.prepare(request)
        choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": "length"}
        for event in (
            {"choices": [choice]},
            {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}},
        ):
            await response.write(b"data: " + orjson.dumps(event) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", chat)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1"))


async def replayed(gpus: fake.FakeNvml, folder: Path, **options: Any) -> Run:
    trace = random_trace(4, workflows=2)
    async with served(gpus) as url, Engines(folder / "servers") as engines:
        configuration = Configuration(engine=url, time_scale=0.1, options={"warm_up": False, "idle_s": 0, **options})
        return await replay(trace, PlannedRun("r", "t", configuration, 0), trace_digest(trace), engines.open)


async def test_run(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """A run's joules come from the sampler, with their uncertainty, what was idle, readings and conditions."""
    run = await replayed(gpus, tmp_path)
    energy, conditions = run.energy, run.conditions
    assert energy.gpu_j is not None and energy.idle_j is not None and energy.integrated_j is not None
    assert conditions is not None and run.readings is not None
    busy_s = sum(r.end_s - r.start_s for r in run.readings if r.energy_j > 0.9 * BUSY_W * (r.end_s - r.start_s))
    length_s = run.readings[-1].end_s
    assert length_s == pytest.approx(run.makespan_s, abs=0.05) and 0 < busy_s <= length_s
    assert IDLE_W * length_s < energy.gpu_j < BUSY_W * length_s * 1.001
    assert energy.source == {"gpu": "nvml-counter"} and 0 < energy.uncertainty_j["gpu"] < 0.1 * energy.gpu_j
    assert sum(r.energy_j for r in run.readings) == pytest.approx(energy.gpu_j)
    assert 0 <= energy.idle_j < energy.gpu_j and energy.hbm_j is not None
    assert run.power_cap.in_force_w == 700 and run.power_cap.bound_fraction == 0
    assert len(conditions.gpus) == 1 and conditions.driver and conditions.sm_clock_mhz is not None
    assert conditions.sampler["samples"] > 10 and 0 < conditions.sampler["cpu_share"] < 1
    assert [p.name for p in sorted((tmp_path / "samples").glob("*.samples"))] == ["gpu-1.samples"]


async def test_each_of_two_gpus_has_joules_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The busy one and the idle one are told apart, add up to the run, and idle joules are part of each."""
    device = fake.create(tmp_path / "two", [fake.FakeGpu(idle_w=IDLE_W), fake.FakeGpu(idle_w=IDLE_W, seed=1)])
    monkeypatch.setenv("REJOULE_FAKE_NVML", str(device.path))
    run = await replayed(device, tmp_path)
    busy, idle = by_gpu(run)
    assert run.conditions is not None and (busy.name, idle.name) == run.conditions.gpus
    assert not busy.assumed and busy.energy_j + idle.energy_j == pytest.approx(run.energy.gpu_j, rel=1e-9)
    assert idle.energy_j == pytest.approx(IDLE_W * run.makespan_s, rel=0.05) and busy.energy_j > 1.5 * idle.energy_j
    assert busy.idle_j is not None and idle.idle_j is not None
    assert busy.idle_j + idle.idle_j == pytest.approx(run.energy.idle_j, abs=0.02 * (run.energy.gpu_j or 0.0))


async def test_no_sampler(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """Without the sampler the counter is read before and after, and nothing is said of the time between."""
    run = await replayed(gpus, tmp_path, sampler=False)
    assert run.energy.gpu_j is not None and run.energy.source == {"gpu": "nvml-counter"}
    assert run.readings is None and run.energy.uncertainty_j == {} and not (tmp_path / "samples").exists()


async def test_joules_are_found_again_in_the_samples(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """What a run's samples say can be read anew: the same joules, readings and cap, though it had been told none."""
    run = await replayed(gpus, tmp_path)
    assert run.conditions is not None and run.energy.gpu_j is not None and run.readings is not None
    start_s = began_s(run, ())
    assert start_s == run.conditions.sampler["start_s"]
    rejected = ("its joules are not known: its period", "GPU-0 is split (MIG)")
    blank = replace(run, energy=Energy(), readings=None, conditions=replace(run.conditions, rejected=rejected))
    found = remeasured(blank, tmp_path / "samples" / "gpu-1.samples", start_s)
    # A run's window ends a moment after its last call.
    assert found.energy.gpu_j == pytest.approx(run.energy.gpu_j, abs=BUSY_W * 0.02)
    assert found.readings is not None
    # When ticks were is told a little better by those of after the run, which the file has by now.
    held = [reading.end_s for reading in run.readings[:-2]]
    assert [reading.end_s for reading in found.readings[: len(held)]] == pytest.approx(held, abs=0.01)
    # What samples cannot tell stays.
    assert found.conditions is not None
    assert rejected[1] in found.conditions.rejected and rejected[0] not in found.conditions.rejected
    off = off_by(run, tmp_path)
    assert off is not None and off * run.energy.gpu_j < BUSY_W * 0.02
    assert off_by(replace(run, conditions=replace(run.conditions, sampler={})), tmp_path) is None


async def test_lost(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """A GPU that is lost in a run leaves a finished run without joules, which says why."""
    gpus.lose(0, after_s=1.5)
    trace = random_trace(4, workflows=3)
    async with served(gpus) as url, Engines(tmp_path / "servers") as engines:
        configuration = Configuration(
            engine=url, concurrency=1, time_scale=0.1, options={"warm_up": False, "idle_s": 0}
        )
        plan = PlannedRun("r", "t", configuration, 0)
        run = await replay(trace, plan, trace_digest(trace), engines.open)
    assert run.energy.gpu_j is None and run.energy.source == {} and run.readings is None
    assert run.conditions is not None and any("lost" in reason for reason in run.conditions.rejected)


async def test_company(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """A process of neither ReJoule nor the server, and a split GPU, are named with the run."""
    gpus.change(0, processes=(1, os.getpid()), mig=True)
    run = await replayed(gpus, tmp_path)
    assert run.conditions is not None and run.conditions.foreign_processes == (1,)
    assert any("MIG" in reason for reason in run.conditions.rejected)


def test_families() -> None:
    """A server's children, its group and what these start are its own; pids of another namespace accuse nobody."""
    running = {10: Process(1, 10), 11: Process(10, 10), 12: Process(11, 12), 20: Process(1, 20), 13: Process(1, 10)}
    assert foreign([11, 12, 13, 20], [10], running) == (20,)
    assert foreign([900, 901], [10], running) == ()
    assert foreign([12, 901], [10], running) == (901,)
    assert foreign([], [10], running) == ()

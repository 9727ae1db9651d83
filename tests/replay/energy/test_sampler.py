"""The sampler: a real process on stand-in GPUs, well and in trouble."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest

from rejoule.replay.energy import fake
from rejoule.replay.energy.sampler import Sampler
from rejoule.replay.energy.samples import read_samples
from rejoule.replay.energy.window import measure
from rejoule.traces import RejouleError

POWER_FIELDS = (185, 186)


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fake.FakeNvml:
    made = [fake.FakeGpu(scenario=fake.Square(100, 600, period_s=0.9)), fake.FakeGpu()]
    device = fake.create(tmp_path / "gpus", made)
    monkeypatch.setenv("REJOULE_FAKE_NVML", str(device.path))
    return device


async def window_of(sampler: Sampler, length_s: float) -> tuple[float, float]:
    start_s = monotonic()
    await asyncio.sleep(length_s)
    return start_s, monotonic()


async def test_joules(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """The energy of a window of real time is the GPUs' true energy, within what is stated and to 1 %."""
    async with Sampler(tmp_path / "gpu.samples") as sampler:
        start_s, end_s = await window_of(sampler, 1.5)
        assert await sampler.settle(end_s, ticks=2) and monotonic() - end_s < 1
        samples = sampler.samples(start_s - 3, end_s + 3)
    found = measure(samples, start_s, end_s)
    true_j = sum(gpus.true_energy_j(i, round(start_s * 1e9), round(end_s * 1e9)) for i in range(2))
    assert found.energy_j == pytest.approx(true_j, rel=0.01) and found.source == "nvml-counter"
    assert found.limit_w == 700 and found.hbm_j is not None and found.thermal_s == 0
    assert samples.cpu_share is not None and samples.cpu_share > 0 and not sampler.alive


async def test_dear_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter whose reads take 4 ms is read seldom, and a window is known as surely where its ends are told."""
    gpu = fake.FakeGpu(scenario=fake.Square(100, 600, period_s=0.9), counter_read_s=0.004)
    device = fake.create(tmp_path / "gpus", [gpu])
    monkeypatch.setenv("REJOULE_FAKE_NVML", str(device.path))
    async with Sampler(tmp_path / "gpu.samples") as sampler:
        await asyncio.sleep(0.5)
        sampler.focus()
        start_s, end_s = await window_of(sampler, 5.0)
        assert await sampler.settle(end_s, ticks=2, timeout_s=3.0)
        samples = sampler.samples()
    track = samples.between(start_s, end_s).gpus[0]
    reads = np.count_nonzero(~np.isnan(track.values("energy_mj")))
    assert 4 <= reads < 25 and track.tick_s == pytest.approx(0.1, rel=0.01)
    found = measure(samples, start_s, end_s)
    assert found.energy_j is not None and found.uncertainty_j is not None, found.missing
    true_j = device.true_energy_j(0, round(start_s * 1e9), round(end_s * 1e9))
    # The uncertainty is that of 95 %: one window in twenty lies beyond it.
    assert found.energy_j == pytest.approx(true_j, abs=2 * found.uncertainty_j)
    assert found.uncertainty_j < 0.04 * true_j and 40 <= len(found.readings) <= 60


async def test_kill(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """Killed at any instant, it leaves a file that reads up to that instant, and its joules are not made up."""
    async with Sampler(tmp_path / "gpu.samples") as sampler:
        start_s, _ = await window_of(sampler, 0.3)
        assert sampler.pid is not None
        killed_s = monotonic()
        os.kill(sampler.pid, signal.SIGKILL)
        await asyncio.sleep(0.8)
        assert not sampler.alive and not await sampler.settle()
    samples = read_samples(tmp_path / "gpu.samples")
    assert all(killed_s - 0.2 < track.at_s[-1] <= killed_s + 0.1 for track in samples.gpus)
    assert measure(samples, start_s, monotonic()).energy_j is None


def test_dies_with_its_parent(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """However the process that started it ends, the sampler ends too."""
    path = tmp_path / "gpu.samples"
    code = (
        "import asyncio, os, signal, sys\nfrom pathlib import Path\n"
        "from rejoule.replay.energy.sampler import Sampler\n"
        "async def main():\n"
        "    async with Sampler(Path(sys.argv[1])):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    pid = read_samples(path).pid
    deadline_s = monotonic() + 5
    while Path(f"/proc/{pid}").exists() and monotonic() < deadline_s:
        sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


async def test_lost_gpu(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """A GPU that falls off the bus is recorded as lost; the other one goes on; the sum is not known."""
    async with Sampler(tmp_path / "gpu.samples") as sampler:
        gpus.lose(1, after_s=0.3)
        start_s, end_s = await window_of(sampler, 0.8)
        await sampler.settle(end_s)
        samples = sampler.samples()
    assert samples.gpus[1].records["lost"][-1] == 1 and samples.gpus[0].records["lost"].sum() == 0
    assert measure(samples, start_s, end_s).energy_j is None


async def test_fields_that_stop(gpus: fake.FakeNvml, tmp_path: Path) -> None:
    """Fields that stop answering are missing from then on, and the counter is enough."""
    async with Sampler(tmp_path / "gpu.samples") as sampler:
        for field in POWER_FIELDS:
            gpus.silence(0, field)
        start_s, end_s = await window_of(sampler, 0.8)
        await sampler.settle(end_s, ticks=2)
        samples = sampler.samples()
    assert np.isnan(samples.gpus[0].values("power_w")[-1]) and not np.isnan(samples.gpus[1].values("power_w")[-1])
    found = measure(samples, start_s, end_s)
    assert found.energy_j is not None and found.integrated_j is None


async def test_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU it says so in one line."""
    monkeypatch.delenv("REJOULE_FAKE_NVML", raising=False)
    with pytest.raises(RejouleError, match="no NVIDIA GPU"):
        async with Sampler(tmp_path / "gpu.samples"):
            pass

"""The wrapper of NVML, through the real pynvml, on stand-in GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rejoule.replay.energy import fake
from rejoule.replay.energy.nvml import GpuLost, Nvml, NvmlRefused, has_gpu, open_nvml
from rejoule.traces import RejouleError

Make = Callable[..., tuple[fake.FakeNvml, Nvml]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes stand-in GPUs on a virtual clock and opens them."""
    opened = []

    def made(*gpus: fake.FakeGpu, **options: Any) -> tuple[fake.FakeNvml, Nvml]:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        handle = fake.create(tmp_path / "gpus", gpus or (fake.FakeGpu(),), virtual=True)
        monkeypatch.setenv("REJOULE_FAKE_NVML", str(handle.path))
        nvml = open_nvml(**options)
        assert nvml is not None
        opened.append(nvml)
        return handle, nvml

    yield made
    for nvml in opened:
        nvml.close()


def test_a_sample_tells_every_sensor(make: Make) -> None:
    _, nvml = make(fake.FakeGpu(scenario=fake.Constant(400.0)))
    sample = nvml.gpus[0].sample()
    assert [f.name for f in fields(sample) if getattr(sample, f.name) is None] == []
    assert (sample.power_w, sample.average_w, sample.hbm_w, sample.limit_w) == (400.0, 400.0, 80.0, 700.0)
    assert (sample.sm_clock_mhz, sample.memory_clock_mhz, sample.reasons) == (1980, 3201, 0)


def test_samples_are_stamped_with_the_host_s_clock_and_the_driver_s(make: Make) -> None:
    gpus, nvml = make()
    first = nvml.gpus[0].sample()
    gpus.advance_s(1.5)
    second = nvml.gpus[0].sample()
    assert second.host_ns - first.host_ns == 1_500_000_000
    assert second.wall_us - first.wall_us == 1_500_000


def test_an_unsupported_field_is_missing_and_not_zero(make: Make) -> None:
    _, nvml = make(fake.FakeGpu(unsupported=(74, 75, 186, 269, 270, 271, "nvmlDeviceGetTemperature"), hbm_share=0.0))
    sample = nvml.gpus[0].sample()
    missing = {f.name for f in fields(sample) if getattr(sample, f.name) is None}
    assert missing == {"power_w", "hbm_w", "temperature_c", "cap_ns", "thermal_ns", "brake_ns"}


def test_memory_power_is_missing_where_the_driver_takes_no_notice_of_the_scope(make: Make) -> None:
    _, nvml = make(fake.FakeGpu(hbm_share=1.0))
    assert nvml.gpus[0].sample().hbm_w is None


def test_an_older_driver_answers_by_single_calls(make: Make) -> None:
    """Neither a batch of fields nor what came with later drivers."""
    old = ("nvmlDeviceGetFieldValues", "nvmlDeviceGetComputeRunningProcesses_v3")
    _, nvml = make(fake.FakeGpu(scenario=fake.Constant(300.0), unsupported=old, node_limit_w=500.0, processes=(7,)))
    gpu = nvml.gpus[0]
    sample = gpu.sample()
    assert sample.energy_mj is not None
    assert (sample.average_w, sample.power_w, sample.limit_w, sample.cap_ns) == (300.0, None, 500.0, None)
    limits = gpu.limits()
    assert (limits.min_w, limits.max_w, limits.default_w) == (200.0, 700.0, 700.0)
    assert (limits.requested_w, limits.in_force_w) == (700.0, 500.0)
    assert gpu.processes() == (7,)


@pytest.mark.parametrize("missing", [(83,), (83, 191)])
def test_the_energy_counter_is_found_wherever_the_driver_has_it(make: Make, missing: tuple[int, ...]) -> None:
    _, nvml = make(fake.FakeGpu(unsupported=missing))
    assert nvml.gpus[0].sample().energy_mj is not None


def test_a_gpu_without_a_counter_has_no_energy(make: Make) -> None:
    _, nvml = make(fake.FakeGpu(unsupported=(83, 191, "nvmlDeviceGetTotalEnergyConsumption")))
    assert nvml.gpus[0].sample().energy_mj is None


def test_the_power_reading_of_an_a100_counts_as_instant(make: Make) -> None:
    _, nvml = make(fake.FakeGpu(name="NVIDIA A100-SXM4-80GB", unsupported=(185, 186)))
    sample = nvml.gpus[0].sample()
    assert (sample.power_w, sample.average_w) == (80.0, None)


def test_a_field_that_stops_answering_is_missing_until_it_does_again(make: Make) -> None:
    gpus, nvml = make()
    gpus.silence(0, 83, after_s=1.0, for_s=1.0)
    told = []
    for _ in range(3):
        told.append(nvml.gpus[0].sample().energy_mj is not None)
        gpus.advance_s(1.0)
    assert told == [True, False, True]


def test_a_gpu_off_the_bus_is_lost_for_every_call(make: Make) -> None:
    gpus, nvml = make(fake.FakeGpu(), fake.FakeGpu())
    gpus.lose(0, after_s=1.0)
    nvml.gpus[0].sample()
    gpus.advance_s(1.0)
    for call in (nvml.gpus[0].sample, nvml.gpus[0].limits, nvml.gpus[0].processes):
        with pytest.raises(GpuLost):
            call()
    with pytest.raises(NvmlRefused) as refused:
        nvml.gpus[0].set_power_limit_w(300)
    assert refused.value.reason == "lost"
    assert nvml.gpus[1].sample().energy_mj is not None
    with pytest.raises(RejouleError):
        open_nvml()


def test_without_its_driver_there_is_no_gpu(make: Make) -> None:
    gpus, nvml = make()
    nvml.gpus[0].set_power_limit_w(300)
    nvml.gpus[0].lock_sm_clock_mhz(1500)
    gpus.unload(for_s=5.0)
    with pytest.raises(GpuLost):
        nvml.gpus[0].sample()
    assert open_nvml() is None
    gpus.advance_s(6.0)
    assert nvml.gpus[0].limits().requested_w == 700.0, "the driver forgets limits"
    assert gpus.truth(0).locked_mhz is None


def test_a_limit_is_set_and_read_back(make: Make) -> None:
    gpus, nvml = make(fake.FakeGpu(scenario=fake.Constant(600.0)))
    nvml.gpus[0].set_power_limit_w(350.5)
    limits = nvml.gpus[0].limits()
    assert (limits.requested_w, limits.in_force_w) == (350.5, 350.5)
    assert gpus.truth(0).power_w == 350.5


@pytest.mark.parametrize(
    ("gpu", "watts", "reason"),
    [
        (fake.FakeGpu(permission=False), 300, "permission"),
        (fake.FakeGpu(), 100, "range"),
        (fake.FakeGpu(), 701, "range"),
        (fake.FakeGpu(unsupported=("nvmlDeviceSetPowerManagementLimit",)), 300, "unsupported"),
    ],
)
def test_a_refused_limit_says_why_and_changes_nothing(make: Make, gpu: fake.FakeGpu, watts: float, reason: str) -> None:
    _, nvml = make(gpu)
    with pytest.raises(NvmlRefused) as refused:
        nvml.gpus[0].set_power_limit_w(watts)
    assert refused.value.reason == reason
    assert nvml.gpus[0].limits().in_force_w == 700.0


def test_what_is_in_force_can_differ_from_what_was_accepted(make: Make) -> None:
    gpus, nvml = make(fake.FakeGpu(node_limit_w=500.0), fake.FakeGpu(ignores_limit=True))
    for gpu, in_force_w in zip(nvml.gpus, (500.0, 700.0), strict=True):
        gpu.set_power_limit_w(600)
        assert (gpu.limits().requested_w, gpu.limits().in_force_w) == (600.0, in_force_w)
        assert gpu.sample().limit_w == in_force_w
    gpus.change(0, node_limit_w=None)
    assert nvml.gpus[0].limits().in_force_w == 600.0


def test_clocks_are_listed_locked_and_unlocked(make: Make) -> None:
    gpus, nvml = make(fake.FakeGpu(scenario=fake.Constant(480.0), idle_w=80.0), fake.FakeGpu(permission=False))
    gpu = nvml.gpus[0]
    clocks = gpu.sm_clocks_mhz()
    assert (clocks[0], clocks[-1]) == (345, 1980)
    assert list(clocks) == sorted(clocks)
    gpu.lock_sm_clock_mhz(990)
    assert gpu.sample().sm_clock_mhz == 990
    assert gpus.truth(0).power_w == 280.0
    gpu.unlock_sm_clock()
    assert gpu.sample().sm_clock_mhz == 1980
    with pytest.raises(NvmlRefused) as refused:
        nvml.gpus[1].lock_sm_clock_mhz(990)
    assert refused.value.reason == "permission"


def test_mig_persistence_processes_and_memory_are_told(make: Make) -> None:
    gpus, nvml = make(fake.FakeGpu(persistence=None, memory_bytes=10))
    gpu = nvml.gpus[0]
    assert (gpu.mig(), gpu.persistence(), gpu.processes(), gpu.memory_bytes()) == (False, None, (), 10)
    gpus.change(0, mig=True, persistence=False, processes=(33, 4))
    assert (gpu.mig(), gpu.persistence(), gpu.processes()) == (True, False, (4, 33))


@pytest.mark.parametrize(
    ("listed", "places"),
    [("1", [1]), ("2,0", [2, 0]), ("GPU-bb,0", [1, 0]), ("0,9,1", [0]), ("", []), ("-1", []), ("GPU-", [])],
)
def test_cuda_visible_devices_chooses_as_in_cuda(
    make: Make, monkeypatch: pytest.MonkeyPatch, listed: str, places: list[int]
) -> None:
    make(*(fake.FakeGpu(uuid=f"GPU-{letter * 4}") for letter in "abc"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    with open_nvml() or Nvml("", ()) as nvml:
        assert [gpu.index for gpu in nvml.gpus] == places


def test_gpus_are_opened_by_uuid_whatever_cuda_sees(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make(fake.FakeGpu(uuid="GPU-a"), fake.FakeGpu(uuid="GPU-b"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with open_nvml(["GPU-b"]) or Nvml("", ()) as nvml:
        assert [(gpu.uuid, gpu.index) for gpu in nvml.gpus] == [("GPU-b", 1)]
    with pytest.raises(RejouleError, match="GPU-c"):
        open_nvml(["GPU-c"])


def test_an_instance_of_a_split_gpu_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    with pytest.raises(RejouleError, match="MIG"):
        open_nvml()


def test_a_machine_without_gpus_has_none(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    assert has_gpu()
    monkeypatch.delenv("REJOULE_FAKE_NVML")
    monkeypatch.setattr("pynvml.CDLL", _no_library)
    assert open_nvml() is None
    assert not has_gpu()


def test_a_stand_in_that_is_not_there_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REJOULE_FAKE_NVML", str(tmp_path / "nothing"))
    with pytest.raises(RejouleError, match="nothing"):
        open_nvml()


def test_another_process_sees_and_sets_the_same_gpus(make: Make) -> None:
    gpus, nvml = make(fake.FakeGpu(scenario=fake.Constant(600.0)))
    code = (
        "import json\nfrom rejoule.replay.energy.nvml import open_nvml\n"
        "with open_nvml() as nvml:\n"
        "    gpu = nvml.gpus[0]\n    gpu.set_power_limit_w(400)\n    sample = gpu.sample()\n"
        "    print(json.dumps([gpu.uuid, sample.host_ns, sample.energy_mj, sample.limit_w]))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, check=True).stdout
    sample = nvml.gpus[0].sample()
    assert json.loads(said) == [nvml.gpus[0].uuid, sample.host_ns, sample.energy_mj, 400.0]
    assert gpus.truth(0).in_force_w == 400.0


def _no_library(name: str) -> None:
    raise OSError(name)

"""The stand-in GPUs: what is true of them, what their sensors make of it, and that processes can share them."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import exp
from pathlib import Path
from time import monotonic, monotonic_ns, sleep

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rejoule.replay.energy import fake
from rejoule.replay.energy.nvml import Nvml, Sample, open_nvml
from rejoule.traces import RejouleError

SECOND_NS = 1_000_000_000
SCENARIOS = (
    fake.Constant(250.0),
    fake.Square(100.0, 600.0, period_s=0.7, duty=0.3),
    fake.Steps(((10.0, 70.0), (10.0, 400.0), (0.0, 90.0))),
    fake.Ramp(100.0, 500.0, seconds=20.0),
    fake.Levels(100.0, 650.0, hold_s=0.33, seed=5),
)


def create(folder: Path, *gpus: fake.FakeGpu) -> fake.FakeNvml:
    return fake.create(folder / "gpus", gpus, virtual=True)


def sampled(monkeypatch: pytest.MonkeyPatch, gpus: fake.FakeNvml) -> Nvml:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("REJOULE_FAKE_NVML", str(gpus.path))
    nvml = open_nvml()
    assert nvml is not None
    return nvml


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: type(scenario).__name__)
def test_true_energy_is_the_integral_of_the_scenario(tmp_path: Path, scenario: fake.Scenario) -> None:
    gpus = create(tmp_path, fake.FakeGpu(scenario=scenario))
    start_ns = gpus.now_ns
    gpus.advance_s(30.0)
    grid_s = (np.arange(300_000) + 0.5) * 1e-4
    watts = [scenario.at(round(at_s * SECOND_NS))[0] for at_s in grid_s[::10]]
    whole_j = gpus.true_energy_j(0, start_ns, gpus.now_ns)
    assert whole_j == pytest.approx(float(np.mean(watts)) * 30.0, rel=1e-3)
    middle_ns = start_ns + 12_345_678_901
    parts_j = gpus.true_energy_j(0, start_ns, middle_ns) + gpus.true_energy_j(0, middle_ns, gpus.now_ns)
    assert parts_j == pytest.approx(whole_j, rel=1e-12)


def test_a_step_from_70_to_400_watts_takes_4700_joules(tmp_path: Path) -> None:
    gpus = create(tmp_path, fake.FakeGpu(scenario=SCENARIOS[2]))
    start_ns = gpus.now_ns
    gpus.advance_s(20.0)
    assert gpus.true_energy_j(0, start_ns, gpus.now_ns) == 4700.0


def test_the_order_of_looks_changes_nothing(tmp_path: Path) -> None:
    """Truth does not depend on who looked when."""
    often, once = (create(tmp_path / name, fake.FakeGpu(scenario=SCENARIOS[4])) for name in ("often", "once"))
    start_ns = often.now_ns
    for _ in range(200):
        often.advance_s(0.05)
        often.truth(0)
    once.advance_s(10.0)
    assert often.now_ns == once.now_ns
    assert often.true_energy_j(0, start_ns, once.now_ns) == once.true_energy_j(0, start_ns, once.now_ns)


def test_the_counter_ticks_every_100_ms_and_never_leads_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = create(tmp_path, fake.FakeGpu(scenario=SCENARIOS[4], seed=3))
    start_ns, ticks_s, before = gpus.now_ns, [], None
    with sampled(monkeypatch, gpus) as nvml:
        for _ in range(1000):
            gpus.advance_s(0.002)
            sample = nvml.gpus[0].sample()
            assert sample.energy_mj is not None
            lag_j = 5000.0 + gpus.true_energy_j(0, start_ns, sample.host_ns) - sample.energy_mj / 1000
            assert -1e-6 <= lag_j <= 0.1 * 650.0 + 0.001
            if before not in (None, sample.energy_mj):
                ticks_s.append((sample.host_ns - start_ns) / SECOND_NS)
            before = sample.energy_mj
    assert np.diff(ticks_s) == pytest.approx(np.full(len(ticks_s) - 1, 0.1), abs=0.0021)
    assert len(ticks_s) in (19, 20, 21)


def test_instant_power_sees_25_ms_of_every_100_and_the_average_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = create(tmp_path, fake.FakeGpu(scenario=fake.Square(100.0, 600.0, period_s=0.047)))
    gpus.advance_s(10.0)
    instant, average = [], []
    with sampled(monkeypatch, gpus) as nvml:
        for _ in range(200):
            gpus.advance_s(0.005)
            sample = nvml.gpus[0].sample()
            instant.append(sample.power_w)
            average.append(sample.average_w)
    assert 9 <= np.count_nonzero(np.diff(np.asarray(instant, float))) <= 11
    assert np.ptp(np.asarray(instant, float)) > 300.0
    assert np.asarray(average, float) == pytest.approx(np.full(200, 350.0), abs=7.0)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: type(scenario).__name__)
def test_what_was_sensed_is_what_reads_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: fake.Scenario
) -> None:
    gpus = create(tmp_path, fake.FakeGpu(scenario=scenario, throttle_c=45.0, ambient_c=30.0))
    samples: list[Sample] = []
    with sampled(monkeypatch, gpus) as nvml:
        nvml.gpus[0].set_power_limit_w(400)
        gpus.reset_counter(0, after_s=2.0)
        for step in range(200):
            gpus.advance_s(0.001)
            gpus.brake(0, 120.0 if 100 <= step < 120 else None)
            gpus.advance_s(0.172)
            samples.append(nvml.gpus[0].sample())
    sensed = gpus.sensed(0, np.array([s.host_ns for s in samples]))
    for name in ("energy_mj", "power_w", "average_w", "hbm_w", "sm_clock_mhz", "temperature_c", "reasons"):
        np.testing.assert_array_equal(getattr(sensed, name), [getattr(s, name) for s in samples], err_msg=name)
    for name in ("cap_ns", "thermal_ns", "brake_ns"):
        np.testing.assert_array_equal(getattr(sensed, name), [getattr(s, name) for s in samples], err_msg=name)


@settings(deadline=None)
@given(demand_w=st.floats(80.0, 1000.0), limit_w=st.floats(200.0, 700.0), mhz=st.none() | st.integers(400, 1980))
def test_power_never_passes_the_limit_and_binds_only_above_it(
    tmp_path_factory: pytest.TempPathFactory, demand_w: float, limit_w: float, mhz: int | None
) -> None:
    wanted_w = 80.0 + (demand_w - 80.0) * (mhz or 1980) / 1980
    assume(abs(wanted_w - limit_w) > 1e-6)  # an exact tie is decided by rounding
    gpus = create(tmp_path_factory.mktemp("any"), fake.FakeGpu(throttle_c=200.0))
    gpus.request_limit_w(0, limit_w)
    gpus.lock_clock_mhz(0, mhz)
    assert gpus.drive(0, demand_w) == (limit_w, mhz)
    gpus.advance_s(2.0)
    truth = gpus.truth(0)
    assert truth.power_w == pytest.approx(min(wanted_w, limit_w))
    assert truth.cap_bound == (wanted_w > limit_w)
    assert truth.bound_s == (2.0 if wanted_w > limit_w else 0.0)
    assert truth.sm_clock_mhz <= (mhz or 1980)


def test_a_load_says_itself_that_the_cap_binds_and_at_which_clock_it_runs(tmp_path: Path) -> None:
    gpus = create(tmp_path, fake.FakeGpu())
    gpus.drive(0, 500.0, sm_clock_mhz=1410.0, cap_bound=True)
    gpus.advance_s(3.0)
    truth = gpus.truth(0)
    assert (truth.power_w, truth.sm_clock_mhz, truth.bound_s) == (500.0, 1410.0, 3.0)


def test_the_temperature_follows_power_by_first_order(tmp_path: Path) -> None:
    spec = fake.FakeGpu(ambient_c=30.0, kelvin_per_w=0.05, heat_lag_s=20.0, start_c=34.0)
    gpus = create(tmp_path, spec)
    gpus.drive(0, 480.0)
    gpus.advance_s(10.0)
    assert gpus.truth(0).temperature_c == pytest.approx(54.0 - 20.0 * exp(-0.5))


def test_heat_holds_the_power_where_the_temperature_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = create(tmp_path, fake.FakeGpu(throttle_c=60.0, ambient_c=30.0, kelvin_per_w=0.06, heat_lag_s=10.0))
    with sampled(monkeypatch, gpus) as nvml:
        gpus.drive(0, 650.0)
        gpus.advance_s(60.0)
        hot = nvml.gpus[0].sample()
        assert (hot.temperature_c, hot.power_w, hot.reasons) == (60, 500.0, 0x20)
        assert hot.thermal_ns is not None and 0 < hot.thermal_ns < 60 * SECOND_NS
        gpus.drive(0, 300.0)
        gpus.advance_s(5.0)
        cool = nvml.gpus[0].sample()
    assert (cool.power_w, cool.reasons) == (300.0, 0)
    assert cool.thermal_ns == hot.thermal_ns


def test_a_brake_is_told_apart_from_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = create(tmp_path, fake.FakeGpu(scenario=fake.Constant(600.0)))
    gpus.brake(0, 250.0)
    gpus.advance_s(1.5)
    with sampled(monkeypatch, gpus) as nvml:
        sample = nvml.gpus[0].sample()
    assert (sample.power_w, sample.reasons, sample.brake_ns, sample.cap_ns) == (250.0, 0x80, 1_500_000_000, 0)


def test_a_counter_that_begins_anew_counts_from_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = create(tmp_path, fake.FakeGpu(scenario=fake.Constant(100.0)))
    gpus.reset_counter(0, after_s=5.0)
    with sampled(monkeypatch, gpus) as nvml:
        counts = []
        for seconds in (0.0, 4.9, 0.1, 10.0):
            gpus.advance_s(seconds)
            counts.append(nvml.gpus[0].sample().energy_mj or 0)
    assert counts[0] < counts[1]
    assert counts[2] == 0
    assert counts[3] == pytest.approx(1_000_000, abs=10_000)


def test_a_gain_and_a_seed_change_the_sensors_only(tmp_path: Path) -> None:
    scenario = fake.Levels(100.0, 600.0, seed=1)
    plain, other = fake.FakeGpu(scenario=scenario), fake.FakeGpu(scenario=scenario, gain=0.95, seed=9)
    gpus = create(tmp_path, plain, other)
    start_ns = gpus.now_ns
    gpus.advance_s(100.0)
    truth_j = [gpus.true_energy_j(i, start_ns, gpus.now_ns) for i in (0, 1)]
    assert truth_j[0] == truth_j[1]
    at_ns = np.array([start_ns, gpus.now_ns])
    sensed_j = [float(np.diff(gpus.sensed(i, at_ns).energy_mj)[0]) / 1000 for i in (0, 1)]
    assert sensed_j[1] / sensed_j[0] == pytest.approx(0.95, abs=0.01)


def test_a_slow_read_takes_its_time_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    virtual = create(tmp_path, fake.FakeGpu())
    with sampled(monkeypatch, virtual) as nvml:
        virtual.slow(0, 0.5)
        first = nvml.gpus[0].sample()
        assert virtual.now_ns - first.host_ns == SECOND_NS // 2
        assert nvml.gpus[0].sample().host_ns == virtual.now_ns
    real = fake.create(tmp_path / "real")
    with sampled(monkeypatch, real) as nvml:
        real.slow(0, 0.1)
        begun_s = monotonic()
        nvml.gpus[0].sample()
        assert monotonic() - begun_s >= 0.1


def test_the_real_clock_is_the_host_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = fake.create(tmp_path / "real")
    with sampled(monkeypatch, gpus) as nvml:
        before_ns = monotonic_ns()
        sample = nvml.gpus[0].sample()
        assert before_ns <= sample.host_ns <= monotonic_ns()
    with pytest.raises(ValueError, match="virtual"):
        gpus.advance_s(1.0)


def test_stand_ins_are_not_made_over_others(tmp_path: Path) -> None:
    create(tmp_path)
    with pytest.raises(FileExistsError):
        create(tmp_path)
    with pytest.raises(FileNotFoundError):
        fake.FakeNvml(tmp_path / "elsewhere")


@pytest.mark.parametrize("unknown", [84, "nvmlDeviceGetPowerUsages", "nvmlDeviceGetCount_v2"])
def test_a_gpu_cannot_lack_what_it_never_has(tmp_path: Path, unknown: int | str) -> None:
    """A field or function that no stand-in has is refused with the list of those that they have."""
    with pytest.raises(RejouleError, match=str(unknown)) as caught:
        create(tmp_path, fake.FakeGpu(unsupported=(186, unknown)))
    assert "186" in caught.value.remedy and "nvmlDeviceGetPowerUsage" in caught.value.remedy
    assert not (tmp_path / "gpus").exists()


def test_threads_and_handles_do_not_lose_each_others_changes(tmp_path: Path) -> None:
    create(tmp_path, *(fake.FakeGpu() for _ in range(4)))

    def work(gpu: int) -> None:
        handle = fake.FakeNvml(tmp_path / "gpus")
        for step in range(50):
            handle.advance_s(0.01)
            handle.drive(gpu, 100.0 + step)

    gpus = fake.FakeNvml(tmp_path / "gpus")
    start_ns = gpus.now_ns
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert gpus.now_ns - start_ns == 4 * 50 * SECOND_NS // 100
    assert [gpus.truth(i).power_w for i in range(4)] == [149.0] * 4


def test_a_process_killed_at_any_moment_leaves_the_state_whole(tmp_path: Path) -> None:
    gpus = fake.create(tmp_path / "gpus", [fake.FakeGpu(scenario=fake.Levels(100.0, 600.0, hold_s=0.001))])
    start_ns = gpus.now_ns
    code = (
        "import itertools, sys\nfrom rejoule.replay.energy import fake\n"
        "gpus = fake.FakeNvml(sys.argv[1])\nprint(flush=True)\n"
        "for i in itertools.count():\n"
        "    gpus.drive(0, 200.0 + i % 300)\n    gpus.request_limit_w(0, 300.0 + i % 400)\n"
    )
    energy_j = 0.0
    for round_ in range(5):
        killed = [
            subprocess.Popen([sys.executable, "-c", code, str(gpus.path)], stdout=subprocess.PIPE) for _ in range(2)
        ]
        for process in killed:
            assert process.stdout is not None
            process.stdout.readline()
        sleep(0.02 + 0.005 * round_)
        for process in killed:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        truth = fake.FakeNvml(gpus.path).truth(0)
        assert truth.energy_j >= energy_j
        energy_j = truth.energy_j
        assert 200.0 <= truth.power_w <= truth.in_force_w
    gone_s = (gpus.now_ns - start_ns) / SECOND_NS
    assert 100.0 * gone_s <= gpus.true_energy_j(0, start_ns, gpus.now_ns) <= 600.0 * gone_s


def test_functions_by_path_are_those_of_a_handle(tmp_path: Path) -> None:
    gpus = create(tmp_path, fake.FakeGpu())
    start_ns = gpus.now_ns
    assert fake.drive(gpus.path, 0, 400.0) == (700.0, None)
    gpus.advance_s(2.0)
    assert fake.true_energy_j(gpus.path, 0, start_ns, gpus.now_ns) == 800.0

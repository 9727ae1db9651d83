"""Calibration finds the constants that made the measurements, and says what it could not find."""

from __future__ import annotations

from dataclasses import replace as changed
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.replay.calibration.made import PROFILE, simulated

from rejoule.replay.calibration.api import api_delays
from rejoule.replay.calibration.calibrate import Calibration, calibrate, write_profile
from rejoule.replay.calibration.grid import Limits
from rejoule.replay.sim.latency import LatencyModel, Work
from rejoule.replay.sim.power import Operation, PowerModel
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces import RejouleError
from rejoule.traces.run import Conditions, Run

TRUE = load_profile(PROFILE)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return [simulated(clock) for clock in (None, 1410, 750)]


@pytest.fixture(scope="module")
def found(runs: list[Run]) -> Calibration:
    return calibrate(wrong(), "fitted", runs[:2], runs[2:])


def wrong() -> Profile:
    """The profile that made the runs, with its constants spoilt."""
    timing = replace(TRUE.timing, compute_efficiency=0.45, memory_efficiency=0.9, per_step_s=1e-3, overlap_norm=2.0)
    power = replace(TRUE.power, idle_w=50, memory_w=90, awake_w=60, compute_w=400, traffic_w=260, knee=0.8)
    return replace(TRUE, timing=timing, power=power)


@pytest.mark.parametrize("name", ["compute_efficiency", "memory_efficiency", "overlap_norm"])
def test_timing_constants_are_recovered(found: Calibration, name: str) -> None:
    assert getattr(found.profile.timing, name) == pytest.approx(getattr(TRUE.timing, name), rel=0.03)


@pytest.mark.parametrize("name", ["idle_w", "memory_w", "awake_w", "compute_w", "traffic_w"])
def test_power_constants_are_recovered(found: Calibration, name: str) -> None:
    assert getattr(found.profile.power, name) == pytest.approx(getattr(TRUE.power, name), rel=0.05)


def test_a_clock_that_was_not_fitted_is_predicted(found: Calibration) -> None:
    assert found.held_out["step time"].mape < 0.02
    assert found.held_out["power"].mape < 0.02
    assert found.held_out["energy of a run"].mape < 0.02


def test_what_the_data_say_nothing_of_is_named_and_stays(found: Calibration) -> None:
    assert "timing.host_per_request_s" in found.undetermined
    assert 0.1 < found.profile.timing.host_per_request_s / TRUE.timing.host_per_request_s < 10
    assert "timing.compute_efficiency" not in found.undetermined


def test_the_profile_is_complete_and_says_where_it_came_from(found: Calibration, tmp_path: Path) -> None:
    write_profile(found.profile, tmp_path / "fitted.json")
    read = load_profile(str(tmp_path / "fitted.json"))
    assert read == found.profile
    assert read.calibrated
    assert read.provenance["base"] == TRUE.name
    assert read.sources["timing.compute_efficiency"].startswith("fitted")
    assert set(read.held_out) == {"step time MAPE", "power MAPE", "energy of a run MAPE"}


PROMPT = Work(prefills=1, prefill_tokens=4096, prefill_pairs=4096**2 / 2)
BENT = {"knee": 0.88, "voltage_slope": 1.2, "voltage_sag": 0.8, "floor": 0.45}
"""A clock curve unlike any that ships."""


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Profile, Calibration]:
    """A GPU whose voltage falls otherwise than the base's, and what calibration makes of its grid at three clocks."""
    true = replace(TRUE, power=replace(TRUE.power, **BENT))
    path = tmp_path_factory.mktemp("bent") / "bent.json"
    write_profile(true, path)
    runs = [
        simulated(clock, profile=str(path), power_cap_w=cap) for clock, cap in ((None, None), (1200, 500), (750, 300))
    ]
    return true, calibrate(TRUE, "fitted", runs)


def test_caps_and_locks_give_the_card_its_own_clock_curve(capped: tuple[Profile, Calibration]) -> None:
    """Watts at all clocks from the least that was measured are those of the true curve, within 4 %."""
    true, found = capped
    for work in (
        PROMPT,
        Work(decodes=8, decode_context=16_000),
    ):
        for clock in range(750, 1981, 82):
            watts = [
                PowerModel(p, LatencyModel(p)).power_at(LatencyModel(p).demand(work), clock)
                for p in (true, found.profile)
            ]
            assert watts[1] == pytest.approx(watts[0], rel=0.04), clock


NARROW = Limits(max_num_seqs=16, max_model_len=4096, kv_tokens=60_000, cell_s=0.1, gap_s=0.1, rest_s=0.3)


def test_caps_alone_give_what_a_card_draws_and_takes_under_caps(tmp_path: Path) -> None:
    """Where no clock may be locked: watts and throughput under caps, measured or between those, within 5 %."""
    true = replace(TRUE, power=replace(TRUE.power, **BENT))
    write_profile(true, tmp_path / "bent.json")
    profile = str(tmp_path / "bent.json")
    runs = [simulated(limits=NARROW, profile=profile, power_cap_w=cap_w) for cap_w in (None, 450, 250)]
    found = calibrate(TRUE, "fitted", runs).profile
    assert found.clock_curve is not None
    assert found.clock_curve.basis == "measured"
    assert found.clock_curve.known_from_w == pytest.approx(250, rel=0.01)
    far = []
    for batch in (0, 8, 64):
        work = Work(decodes=batch, decode_context=1000 * batch) if batch else PROMPT
        for cap_w in range(250, 601, 50):
            a, b, before = (steady(p, work, cap_w) for p in (true, found, TRUE))
            assert b.power_w == pytest.approx(a.power_w, rel=0.05), (batch, cap_w)
            assert b.step_s == pytest.approx(a.step_s, rel=0.05), (batch, cap_w)
            far.append(abs(before.step_s / a.step_s - 1))
    assert max(far) > 0.1  # so far is the base off


def steady(profile: Profile, work: Work, cap_w: float) -> Operation:
    latency = LatencyModel(profile)
    return PowerModel(profile, latency, cap_w).operate(latency.demand(work))


def test_joules_that_were_not_the_grids_alone_are_not_fitted(runs: list[Run]) -> None:
    around = Conditions(rejected=("other processes used these GPUs (7): end them",))
    beside = changed(runs[0], conditions=around)
    with pytest.raises(RejouleError, match=r"other processes.*measure anew.*--timing-only"):
        calibrate(TRUE, "x", [beside])


def test_a_curve_measured_under_caps_is_called_measured_from_there_on(capped: tuple[Profile, Calibration]) -> None:
    curve = capped[1].profile.clock_curve
    assert curve is not None
    assert (curve.basis, curve.own_card, curve.caps) == ("measured", True, ())
    assert 200 <= curve.known_from_w <= 300
    assert curve.known_from_mhz == pytest.approx(750, rel=0.01)


def test_without_caps_the_clock_curve_stays_assumed_but_the_power_is_the_cards(runs: list[Run]) -> None:
    found = calibrate(TRUE, "fitted", runs[:1])
    assert found.profile.clock_curve is not None
    assert (found.profile.clock_curve.basis, found.profile.clock_curve.own_card) == ("assumed", True)
    assert any("--power-cap" in note for note in found.notes)


def test_equal_runs_give_equal_constants(runs: list[Run], found: Calibration) -> None:
    again = calibrate(wrong(), "fitted", runs[:2], runs[2:])
    assert (again.profile.timing, again.profile.power) == (found.profile.timing, found.profile.power)


def test_what_a_host_needs_to_launch_is_found(tmp_path: Path) -> None:
    """With CUDA graphs, without them, and after a pause; and how fast an API server hands on requests and answers."""
    slow = {"host_prefill_s": 0.009, "host_eager_s": 0.021, "host_first_s": 0.004}
    api = {
        "api_per_request_s": 0.003,
        "api_crowd_s": 0.0012,
        "api_answer_s": 0.0015,
        "api_per_output_s": 0.0001,
        "api_per_echoed_token_s": 1.2e-6,
    }
    path = tmp_path / "slow.json"
    write_profile(replace(TRUE, timing=replace(TRUE.timing, **slow, **api)), path)
    run = simulated(profile=str(path))
    fitted = calibrate(TRUE, "fitted", [run], timing_only=True).profile
    for name in ("host_prefill_s", "host_eager_s", "host_first_s"):
        assert getattr(fitted.timing, name) == pytest.approx(slow[name], rel=0.06), name
    delays = api_delays([run])
    assert delays is not None
    for name, seconds in api.items():
        assert delays.values[name] == pytest.approx(seconds, rel=0.05), name
    assert delays.values["api_per_token_s"] == pytest.approx(0, abs=1e-7)
    assert not fitted.calibrated
    served = changed(run, configuration=changed(run.configuration, engine="vllm"))
    found = calibrate(TRUE, "fitted", [served], timing_only=True)
    for name in api:
        assert getattr(found.profile.timing, name) == delays.values[name]
        assert found.profile.sources[f"timing.{name}"].startswith("fitted"), name


def test_where_no_call_finds_the_engine_idle_the_api_server_stays_and_that_is_said(runs: list[Run]) -> None:
    busy = changed(runs[0], calls=tuple(changed(c, sent_s=0.0, first_token_s=None) for c in runs[0].calls[:5]))
    found = calibrate(TRUE, "fitted", [busy], timing_only=True)
    assert found.profile.timing.api_answer_s == TRUE.timing.api_answer_s
    assert any("API server" in note for note in found.notes)


def test_runs_without_steps_or_readings_say_how_to_record_them(runs: list[Run]) -> None:
    with pytest.raises(RejouleError, match=r"no engine steps.*--grid-only"):
        calibrate(TRUE, "x", [changed(runs[0], steps=None)])
    with pytest.raises(RejouleError, match=r"no power readings.*--timing-only"):
        calibrate(TRUE, "x", [changed(runs[0], readings=None)])


@pytest.mark.parametrize(("option", "value"), [("enforce_eager", True), ("async_scheduling", False)])
def test_runs_without_what_a_profile_takes_for_given_are_refused(runs: list[Run], option: str, value: bool) -> None:
    """Launch times without CUDA graphs, or one after another, would be fitted as if they were the usual ones."""
    turned = changed(runs[0].configuration, options={**runs[0].configuration.options, option: value})
    with pytest.raises(RejouleError, match=f"served without {option}"):
        calibrate(TRUE, "x", [changed(runs[0], configuration=turned)])


def test_runs_on_other_numbers_of_gpus_than_the_base_or_each_other_are_refused(runs: list[Run]) -> None:
    two = changed(runs[0], engine={"tensor_parallel_size": 2})
    for base, given in ((load_profile("h200-data-sheet-llama-3.1-8b-tp4"), [two]), (TRUE, [*runs, two])):
        with pytest.raises(RejouleError, match=r"runs on 2 GPUs.*equal numbers of GPUs"):
            calibrate(base, "x", given)

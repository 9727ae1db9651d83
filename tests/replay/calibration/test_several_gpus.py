"""Calibration on two GPUs finds what those exchange and what their workers cost, from grids with and without vLLM's own
all-reduces, and begins with a profile of one."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any

import pytest
from msgspec.structs import replace
from tests.replay.calibration.made import PROFILE, simulated
from tests.replay.calibration.test_quick import CARD, PARENT, SMALL, ran

from rejoule.replay.calibration import fit, quick
from rejoule.replay.calibration.calibrate import Calibration, calibrate, write_profile
from rejoule.replay.calibration.child import quick_calibrate
from rejoule.replay.calibration.least_squares import Found, Parameter
from rejoule.replay.calibration.observations import observed_steps, power_readings
from rejoule.replay.calibration.origin import check_measured, on_their_gpus, untold_note
from rejoule.replay.calibration.quick import GridRun, moving
from rejoule.replay.sim.shipped import load_profile
from rejoule.replay.sim.tensor_parallel import on_gpus, spread
from rejoule.traces import RejouleError

ONE = load_profile(PROFILE)
TIMES = {
    "all_reduce_s": 9e-6,
    "all_reduce_efficiency": 0.4,
    "nccl_s": 2.6e-5,
    "nccl_efficiency": 0.38,
    "host_workers_s": 9e-4,
}
"""Of a host and links unlike those of the data sheet."""
TRUE = replace(
    spread(ONE, 2), timing=replace(spread(ONE, 2).timing, **TIMES), power=replace(spread(ONE, 2).power, link_w=140.0)
)
OFF: dict[str, Any] = {"disable_custom_all_reduce": True}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    path = tmp_path_factory.mktemp("two") / "two.json"
    write_profile(TRUE, path)
    return calibrate(ONE, "fitted", [simulated(profile=str(path)), simulated(profile=str(path), **OFF)])


@pytest.mark.parametrize("name", TIMES)
def test_what_gpus_exchange_and_workers_cost_is_found(found: Calibration, name: str) -> None:
    assert getattr(found.profile.timing, name) == pytest.approx(TIMES[name], rel=0.1)


def test_steps_are_as_long_as_they_were_and_the_base_of_one_gpu_is_on_two(found: Calibration) -> None:
    assert found.timing["all"].mape < 0.01
    assert (found.profile.tensor_parallel, found.profile.provenance["base"]) == (2, f"{ONE.name} on 2 GPUs")
    assert found.profile.sources["timing.nccl_s"].startswith("fitted")


def test_what_waiting_draws_is_found_or_said_not_to_be(found: Calibration) -> None:
    assert "power.link_w" in found.known
    near = found.profile.power.link_w == pytest.approx(TRUE.power.link_w, rel=0.2)
    assert near or "power.link_w" in found.undetermined


@pytest.mark.parametrize(("options", "name"), [({}, "all_reduce_s"), (OFF, "nccl_s")])
def test_a_quick_calibration_moves_the_latency_of_the_way_that_was_used(options: dict[str, Any], name: str) -> None:
    two = on_gpus(PARENT, 2)
    parts = moving(two, options=[options])
    links = {part for part in parts if part in ("timing.all_reduce_s", "timing.two_shot_s", "timing.nccl_s")}
    assert links == {f"timing.{name}"}
    assert "timing.host_workers_s" in parts["timing.host_per_step_s"]


def test_a_quick_calibration_finds_the_links_latency() -> None:
    there = on_gpus(CARD, 2)
    there = replace(there, timing=replace(there.timing, all_reduce_s=1.5e-5))
    run = ran(there)
    run = changed(run, engine={**run.engine, "tensor_parallel_size": 2})
    child = quick_calibrate(PARENT, "child", [GridRun(run, SMALL)])
    assert child.profile.timing.all_reduce_s == pytest.approx(1.5e-5, rel=0.15)
    assert child.profile.timing.nccl_s == on_gpus(PARENT, 2).timing.nccl_s


def test_more_gpus_decode_large_batches_in_two_shots_and_that_latency_moves_too() -> None:
    """Of 64 tokens of this model, which four GPUs exchange so; one token goes in one shot."""
    assert "timing.two_shot_s" in moving(on_gpus(PARENT, 4), seats=64)
    assert "timing.two_shot_s" not in moving(on_gpus(PARENT, 4), seats=32)
    assert "timing.two_shot_s" not in moving(on_gpus(PARENT, 2), seats=256)
    # From 8 MiB on NCCL takes over, and the sizes between are still exchanged in two shots.
    assert {"timing.all_reduce_s", "timing.two_shot_s", "timing.nccl_s"} <= moving(
        on_gpus(PARENT, 4), seats=1024
    ).keys()


@pytest.mark.parametrize("name", quick.LINK.values())
def test_a_link_that_the_parent_does_not_know_is_sought_among_latencies(name: str) -> None:
    four = on_gpus(PARENT, 4)
    field = name.removeprefix("timing.")
    silent = replace(four, timing=replace(four.timing, **{field: 0.0 if field == "all_reduce_s" else None}))
    (sought,) = quick._start(silent, {name: ()})[1]
    assert 1e-6 < sought.start < 1e-4


@pytest.mark.parametrize(("known", "start"), [(1.5, "parent's"), (0.1, "above")])
def test_a_link_that_the_cells_say_nothing_of_stays_near_the_parents(
    known: float, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little better a fit from above is: only one that found the link counts."""
    misfits = iter((1.0, 0.9))

    def fitted(_: object, __: object, ___: object, begun: list[Parameter], **____: object) -> Found:
        return Found({p.name: p.start for p in begun}, {p.name: known for p in begun}, next(misfits))

    monkeypatch.setattr(quick, "least_squares", fitted)
    two = replace(on_gpus(PARENT, 2), calibrated=False)
    found = quick.quick_fit(two, [GridRun(ran(two), SMALL)])
    times = {"parent's": 1.0, "above": quick.SLOW_LINK}[start]
    assert found.profile.timing.all_reduce_s == pytest.approx(times * two.timing.all_reduce_s)
    assert ("timing.all_reduce_s" in found.undetermined) is (start == "parent's")


def test_servers_that_do_not_tell_their_gpus_are_taken_for_as_many_as_the_base_has_and_that_is_said() -> None:
    silent = ran(PARENT)
    for base in (PARENT, on_gpus(PARENT, 2)):
        assert on_their_gpus(base, [silent]) == base
        check_measured(base, [silent], timing_only=False)
        note = untold_note(base, [silent])
        assert note is not None and f"taken for {base.tensor_parallel}," in note and "--base" in note
    started = changed(silent, configuration=changed(silent.configuration, engine="vllm"))
    assert untold_note(PARENT, [started]) is None
    with pytest.raises(RejouleError, match="runs on 1 GPU,"):
        check_measured(on_gpus(PARENT, 2), [started], timing_only=False)
    told = changed(silent, engine={"tensor_parallel_size": 2})
    assert on_their_gpus(PARENT, [told]).tensor_parallel == 2 and untold_note(PARENT, [told]) is None


@pytest.mark.parametrize("gpus", [1, 2])
def test_what_memory_draws_by_its_sensors_is_of_one_gpu(gpus: int) -> None:
    """The sensors are read together."""
    profile = on_gpus(ONE, gpus)
    run = simulated()
    readings = list(power_readings(run, list(observed_steps(run))))
    times = fit._times(profile, readings)
    told = [changed(reading, hbm_w=gpus * (20.0 + 130.0 * fit._busy(times, at))) for at, reading in enumerate(readings)]
    found, _ = fit.fit_power(profile, told, clocked=False)
    assert found.power.memory_w == pytest.approx(130.0)

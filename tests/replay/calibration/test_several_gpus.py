"""Calibration on two GPUs finds what those exchange and what their workers cost, from grids with and without vLLM's own
all-reduces, and begins with a profile of one."""

from __future__ import annotations

from dataclasses import replace as changed
from typing import Any

import pytest
from msgspec.structs import replace
from tests.replay.calibration.made import PROFILE, simulated
from tests.replay.calibration.test_quick import CARD, PARENT, SMALL, ran

from rejoule.replay.calibration.calibrate import Calibration, calibrate, write_profile
from rejoule.replay.calibration.child import quick_calibrate
from rejoule.replay.calibration.quick import GridRun, moving
from rejoule.replay.sim.shipped import load_profile
from rejoule.replay.sim.tensor_parallel import on_gpus

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
    on_gpus(ONE, 2), timing=replace(on_gpus(ONE, 2).timing, **TIMES), power=replace(on_gpus(ONE, 2).power, link_w=140.0)
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
    assert child.profile.timing.nccl_s == there.timing.nccl_s

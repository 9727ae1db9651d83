"""A profile of one GPU is put on several: what it knows stays, and what it cannot know is said to be assumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from rejoule.replay.calibration.fit import ITS_OWN, OF_ONE
from rejoule.replay.engines.sim import check_sim, engine_config, sim_identity
from rejoule.replay.sim.links import LINKS, OF_LINKS
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import FOLDER, compose, load_profile
from rejoule.replay.sim.tensor_parallel import on_gpus, spread
from rejoule.traces import RejouleError
from rejoule.traces.ran_on import Known
from rejoule.traces.run import Configuration

ONE = load_profile("h200-llama-3.1-8b")
TWO = spread(ONE, 2)
MEASURED = load_profile("h200-llama-3.1-8b-tp2")
SHEET = compose("h200-data-sheet", "llama-3.1-8b", 2)


def test_what_was_fitted_stays_and_links_are_those_of_the_data_sheet() -> None:
    fitted = [name for name in ONE.timing.__struct_fields__ if name not in LINKS]
    assert [getattr(TWO.timing, name) for name in fitted] == [getattr(ONE.timing, name) for name in fitted]
    assert [getattr(TWO.timing, name) for name in LINKS] == [getattr(SHEET.timing, name) for name in LINKS]
    assert replace(TWO.power, link_w=0.0) == replace(ONE.power, link_w=0.0)
    assert (TWO.power.link_w, TWO.gpu.link) == (SHEET.power.link_w, "nvlink")


def with_links(profile: Profile, given: dict[str, Any], sources: dict[str, str]) -> Profile:
    parts: dict[str, dict[str, Any]] = {"timing": {}, "power": {}, "gpu": {}}
    for name, value in given.items():
        part, _, field = name.partition(".")
        parts[part][field] = value
    held = {part: replace(getattr(profile, part), **values) for part, values in parts.items()}
    return replace(profile, name="mine", sources=profile.sources | sources, **held)


OWN = {
    "timing.all_reduce_s": 2e-5,
    "timing.nccl_efficiency": 0.3,
    "timing.host_workers_s": 1e-3,
    "power.link_w": 33.0,
    "gpu.link_bytes_per_s": 2e11,
    "gpu.link": "peer",
}


def value(profile: Profile, name: str) -> object:
    part, _, field = name.partition(".")
    return getattr(getattr(profile, part), field)


@pytest.mark.parametrize("name", OWN)
def test_a_link_of_the_profiles_own_is_kept_and_said_to_be(name: str) -> None:
    """Whether it was fitted or is only there: what its source says stays, and all else is the data sheet's."""
    for sources in ({}, {name: "fitted; relative standard error 0.02"}):
        mine = with_links(ONE, {name: OWN[name]}, sources)
        two = on_gpus(mine, 2)
        assert value(two, name) == OWN[name] and two.sources.get(name) == mine.sources.get(name)
        others = [other for other, *_ in OF_LINKS if other != name]
        assert [value(two, other) for other in others] == [value(SHEET, other) for other in others]
        assert two.source.endswith(f"what they exchange is assumed, but for its own {name}.")


def test_a_link_that_equals_a_default_is_its_own_where_it_has_a_source() -> None:
    name = "timing.all_reduce_efficiency"
    assert value(on_gpus(with_links(ONE, {name: 1.0}, {name: "mine"}), 2), name) == 1.0
    assert value(on_gpus(with_links(ONE, {name: 1.0}, {}), 2), name) == value(SHEET, name)


def test_no_link_of_a_shipped_profile_is_called_its_own() -> None:
    for profile in (
        ONE,
        compose("h200", "llama-3.1-8b"),
        compose("h200-data-sheet", "llama-3.1-8b"),
        compose("l40s", "llama-3.1-8b"),
    ):
        assert spread(profile, 2).source.endswith("what they exchange is assumed.")


def test_a_file_of_a_gpu_on_several_has_the_same_links(tmp_path: Path) -> None:
    """Whether they are asked for by the profile's name or by the option."""
    sheet = json.loads((FOLDER / "gpus" / "h200-data-sheet.json").read_bytes())
    for name in LINKS:
        del sheet["timing"][name]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(sheet | {"timing": sheet["timing"] | {"all_reduce_s": 2e-5}, "sources": {}}))
    one, two = (load_profile(f"{path.with_suffix('')}-llama-3.1-8b{gpus}") for gpus in ("", "-tp2"))
    for profile in (two, on_gpus(one, 2)):
        assert profile.timing == replace(SHEET.timing, all_reduce_s=2e-5)
        assert (profile.power, profile.gpu) == (SHEET.power, SHEET.gpu)


def test_it_is_called_what_it_is_and_not_calibrated() -> None:
    assert (TWO.name, TWO.tensor_parallel, TWO.calibrated) == ("h200-llama-3.1-8b on 2 GPUs", 2, False)
    assert "assumed" in TWO.source and TWO.sources["power.link_w"].startswith("assumed")
    assert (TWO.held_out, TWO.expected_error) == ({}, None)
    assert TWO.serving == replace(ONE.serving, num_gpu_blocks=SHEET.serving.num_gpu_blocks)


def test_as_many_as_a_profile_has_change_nothing() -> None:
    assert on_gpus(ONE, 1) is ONE
    assert on_gpus(SHEET, 2) is SHEET


@pytest.mark.parametrize(
    ("profile", "gpus", "what"),
    [
        ("h200-llama-3.1-8b-tp2", 4, "is of 2 GPUs, and tensor_parallel_size is 4.*of one GPU or of 4"),
        ("h200-llama-3.1-8b-tp2", 1, "is of 2 GPUs, and tensor_parallel_size is 1"),
        ("h200-llama-3.1-8b", 0, "tensor_parallel_size is 0.*take 1 or more"),
        ("h200-llama-3.1-8b", -2, "tensor_parallel_size is -2.*take 1 or more"),
        ("h200-llama-3.1-8b", 3, "32 attention heads cannot be split over 3 GPUs"),
        ("h200-llama-3.1-8b", "two", "tensor_parallel_size = 'two' is not int"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(profile: str, gpus: object, what: str) -> None:
    with pytest.raises(RejouleError, match=what):
        check_sim(Configuration(profile=profile, options={"tensor_parallel_size": gpus}))


def test_the_option_puts_the_profile_on_as_many() -> None:
    options = {"tensor_parallel_size": 2, "disable_custom_all_reduce": True}
    config = engine_config(Configuration(options=options))
    assert config.profile == MEASURED and config.disable_custom_all_reduce
    assert sim_identity(Configuration(options=options))["profile"] == MEASURED.name
    own = engine_config(Configuration(options={"tensor_parallel_size": 2}))
    exchanges = [each.latency().exchange for each in (own, config)]
    assert [exchange.way(8192) for exchange in exchanges] == ["one shot", "NCCL"]


def test_what_was_fitted_to_two_gpus_is_taken_for_two_of_that_profile_and_for_nothing_else() -> None:
    assert on_gpus(ONE, 2) == MEASURED and MEASURED.calibrated and MEASURED.tensor_parallel == 2
    assert on_gpus(ONE, 1) is ONE and on_gpus(ONE, 4) == spread(ONE, 4)
    for other in (replace(ONE, power=replace(ONE.power, idle_w=99.0)), compose("h200-data-sheet", "llama-3.1-8b")):
        assert on_gpus(other, 2) == spread(other, 2) and not on_gpus(other, 2).calibrated


def test_the_shipped_profile_of_two_gpus_keeps_what_one_shows_alone_and_is_served_by_default() -> None:
    for name in (*ITS_OWN, *OF_ONE):
        assert getattr(MEASURED.timing, name) == pytest.approx(getattr(ONE.timing, name))
    assert MEASURED.sources["timing.compute_efficiency"].startswith("of one GPU: fitted")
    assert MEASURED.serving == TWO.serving
    assert "grid" in MEASURED.provenance["runs"] and len(MEASURED.provenance["gpus"].split(", ")) == 2


def test_one_and_two_gpus_are_two_things_in_a_folder_of_runs() -> None:
    """A sweep over the number of GPUs is no profile that changed."""
    known = Known()
    for gpus in (1, 2):
        configuration = Configuration(options={"tensor_parallel_size": gpus})
        assert known.learn(f"of {gpus}", configuration, sim_identity(configuration)) is None

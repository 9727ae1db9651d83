"""A profile of one GPU is put on several: what it knows stays, and what it cannot know is said to be assumed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from rejoule.replay.calibration.fit import ITS_OWN, OF_ONE
from rejoule.replay.engines.sim import check_sim, engine_config, sim_identity
from rejoule.replay.sim.shipped import LINKS, compose, load_profile
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

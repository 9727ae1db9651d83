"""Profiles: what ships, how a GPU and a model are put together, and how a bad file is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rejoule.replay.sim.links import LINKS
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import (
    FOLDER,
    OTHERS,
    TOGETHER,
    compose,
    gpu_names,
    load_profile,
    model_names,
    names,
)
from rejoule.traces.errors import RejouleError

Spoil = Callable[[dict[str, Any]], object]


def smallest_fit(gpu: str, model: str) -> Profile:
    for gpus in (1, 2, 4):
        try:
            return compose(gpu, model, gpus)
        except RejouleError:
            continue
    return compose(gpu, model, 8)


def test_no_shipped_profile_calls_its_cards_the_users_own() -> None:
    together = [f"{gpu}-llama-3.1-8b-tp1" for gpu in gpu_names()]
    curves = [load_profile(name).clock_curve for name in (*names(), *together)]
    assert curves and not any(curve and curve.own_card for curve in curves)


def test_complete_profiles_load_and_name_their_sources() -> None:
    """A complete shipped profile says where it comes from; a calibrated one also how good it is."""
    for name in names():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.source
        assert not profile.calibrated or (profile.provenance and profile.held_out)


@pytest.mark.parametrize("gpu", gpu_names())
@pytest.mark.parametrize("model", model_names())
def test_every_gpu_serves_every_model_with_enough_of_them(gpu: str, model: str) -> None:
    """On some number of GPUs up to eight each shipped model fits, and on several its profile is marked uncalibrated, as
    on one that nobody measured."""
    profile = smallest_fit(gpu, model)
    assert profile.calibrated is (gpu == "h200" and profile.tensor_parallel == 1)
    assert profile.serving.num_gpu_blocks > 100
    assert load_profile(f"{gpu}-{model}-tp8").tensor_parallel == 8


def test_a_gpus_fitted_constants_are_taken_where_no_complete_profile_has_the_name() -> None:
    """And the data sheet keeps a name of its own."""
    whole, together, sheet = (load_profile(f"{gpu}-llama-3.1-8b{n}") for gpu, n in
                              (("h200", ""), ("h200", "-tp1"), ("h200-data-sheet", "")))  # fmt: skip
    assert whole.held_out and whole.timing != together.timing != sheet.timing
    assert (together.calibrated, sheet.calibrated, sheet.provenance) == (True, False, {})
    assert together.provenance["gpus"].startswith("GPU-71500862")
    assert together.provenance[TOGETHER] == "llama-3.1-8b, qwen3-32b-16-layers, qwen3-32b"
    assert load_profile("h200-qwen3-8b").provenance[OTHERS] == together.provenance[TOGETHER]
    assert together.timing.host_eager_s > load_profile("h200-qwen3-32b-16-layers").timing.host_eager_s


def test_links_of_a_fitted_gpu_are_its_data_sheets() -> None:
    """Since one GPU by itself shows nothing of them; what it does show is said to be of one."""
    two, sheet = (compose(gpu, "qwen3-32b", 2) for gpu in ("h200", "h200-data-sheet"))
    assert [getattr(two.timing, name) for name in LINKS] == [getattr(sheet.timing, name) for name in LINKS]
    assert (two.power.link_w, two.gpu.link) == (sheet.power.link_w, sheet.gpu.link)
    assert two.timing.compute_efficiency != sheet.timing.compute_efficiency
    assert two.sources["timing.compute_efficiency"].startswith("of one GPU: fitted")


@pytest.mark.parametrize("gpu", gpu_names())
def test_every_constant_of_a_gpu_names_its_source(gpu: str) -> None:
    """Each number of the GPU, its timing and its power has a line in ``sources``, or its group has."""
    raw = msgspec.json.decode((FOLDER / "gpus" / f"{gpu}.json").read_bytes())
    for part in ("gpu", "timing", "power"):
        for key in raw[part].keys() - {"name"}:
            told = {f"{part}.{key}", f"{part}.*"} | ({"gpu.min_power_limit_w"} if key == "max_power_limit_w" else set())
            assert told & raw["sources"].keys(), f"{part}.{key}"


@pytest.mark.parametrize(
    ("model", "parameters", "active"),
    [
        ("llama-2-7b", 6.738e9, 6.61e9),
        ("llama-3.1-8b", 8.030e9, 7.50e9),
        ("llama-3.1-70b", 70.554e9, 69.5e9),
        ("qwen3-8b", 8.191e9, 7.57e9),
        ("qwen3-32b", 32.762e9, 31.98e9),
        ("qwen3-30b-a3b", 30.532e9, 3.04e9),
        ("deepseek-v2-lite", 15.706e9, 2.45e9),
    ],
)
def test_models_have_the_sizes_that_their_makers_publish(model: str, parameters: float, active: float) -> None:
    """All parameters, and those that one token uses with the output head, add up from the shape."""
    shape = compose("h200", model, 2).model
    assert shape.parameters == pytest.approx(parameters, rel=1e-3)
    assert shape.active_parameters + shape.head_parameters == pytest.approx(active, rel=0.01)


def test_llama_2_caches_half_a_mebibyte_a_token() -> None:
    """It has no grouped queries: an A100 of 40 GB holds ten contexts of 4096 tokens beside it, and no more."""
    profile = compose("a100-40gb", "llama-2-7b")
    assert profile.model.kv_bytes_per_token == 2**19 and not profile.calibrated
    assert profile.serving.num_gpu_blocks * profile.serving.block_size // 4096 == 10


def test_latent_attention_caches_a_latent_and_not_heads() -> None:
    """DeepSeek-V2-Lite keeps 576 values a layer; 16 heads of keys and values would be 5120."""
    shape = compose("h200", "deepseek-v2-lite").model
    assert shape.kv_bytes_per_token == 27 * 576 * 2
    assert shape.kv_split(4) == 1


def test_defaults_follow_vllm_by_memory() -> None:
    """From 70 GiB on, except on the A100, vLLM batches 1024 sequences and 8192 tokens; else 256 and 2048."""
    limits = {
        gpu: (serving.max_num_seqs, serving.max_num_batched_tokens)
        for gpu in ("h200", "h100", "a100", "rtx-4090")
        for serving in (compose(gpu, "llama-3.1-8b").serving,)
    }
    assert limits == {"h200": (1024, 8192), "h100": (1024, 8192), "a100": (256, 2048), "rtx-4090": (256, 2048)}


def test_more_gpus_hold_more_cache() -> None:
    """Weights are split, and so is each token's cache, up to the number of KV heads."""
    one, two, four = (compose("h100", "llama-3.1-8b", n).serving.num_gpu_blocks for n in (1, 2, 4))
    assert 2 * one < two
    assert 2 * two < four


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("h300", "GPU-MODEL"),
        ("h200-llama-9", r"llama-3\.1-8b"),
        ("h200-llama-3.1-8b-tp0", "no profile"),
        ("h100-llama-3.1-70b", "do not fit"),
        ("h100-llama-3.1-8b-tp3", "heads cannot be split"),
        ("missing.json", "no profile"),
    ],
)
def test_a_name_that_cannot_be_served_is_refused_with_a_remedy(name: str, says: str) -> None:
    """Misspelt names are answered with what there is, models that do not fit with what would help."""
    with pytest.raises(RejouleError, match=says):
        load_profile(name)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p.pop("gpu"), "missing required field `gpu`"),
        (lambda p: p["power"].pop("knee"), r"`knee`.*\$\.power"),
        (lambda p: p["power"].update(watts=3), r"`watts`.*\$\.power"),
        (lambda p: p["model"].update(layers="many"), r"\$\.model\.layers"),
        (lambda p: p["model"].update(layers=True), r"\$\.model\.layers"),
        (lambda p: p["timing"].update(compute_efficiency=0), r"\$\.timing\.compute_efficiency"),
        (lambda p: p.update(timing=3), r"\$\.timing"),
        (lambda p: p["model"].update(max_model_len=0), r"\$\.model\.max_model_len"),
    ],
)
def test_a_spoilt_profile_is_refused_by_the_name_of_what_is_wrong(tmp_path: Path, spoil: Spoil, says: str) -> None:
    """The error names the field."""
    raw = msgspec.to_builtins(load_profile("a100-llama-3.1-8b"))
    spoil(raw)
    path = tmp_path / "mine.json"
    path.write_bytes(msgspec.json.encode(raw))
    with pytest.raises(RejouleError, match=says):
        load_profile(str(path))


def test_a_profile_survives_its_own_file(tmp_path: Path) -> None:
    """What is written and read again is equal."""
    profile = load_profile("a100-qwen3-30b-a3b-tp2")
    path = tmp_path / "mine.json"
    path.write_bytes(msgspec.json.encode(profile))
    assert load_profile(str(path)) == profile


def test_a_profile_that_is_not_json_is_refused(tmp_path: Path) -> None:
    """A cut file is one clear error."""
    path = tmp_path / "mine.json"
    path.write_text('{"name": ')
    with pytest.raises(RejouleError, match="not JSON"):
        load_profile(str(path))

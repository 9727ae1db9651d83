"""Grids of several models give the constants of their GPU, of which any model's profile can be put together."""

from __future__ import annotations

import json
from dataclasses import replace as changed
from pathlib import Path

import msgspec
import pytest
from benchmarks.gpu.shape import attention, config
from benchmarks.sizes import (
    CUT,
    GPU,
    LARGE,
    SMALL,
    Planted,
    fitted,
    fitted_alone,
    measured,
    planted,
    watched,
    workloads,
)
from click.testing import CliRunner
from msgspec.structs import replace
from tests.replay.calibration.made import simulated

from rejoule.analysis.validate import validate
from rejoule.replay.calibration.sizes import GpuCalibration, Size, calibrate_gpu
from rejoule.replay.cli.calibrate import calibrate
from rejoule.replay.cli.gpu_file import write_gpu
from rejoule.replay.cli.replay import replay
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import compose, load_profile, put_together
from rejoule.traces import RejouleError
from rejoule.traces.modelled import worth_notes
from rejoule.traces.run import Run

THIRD = "qwen3-30b-a3b"
TINY = ("--cell-s", "0.02", "--max-num-seqs", "8", "--max-model-len", "4096", "--kv-tokens", "40000")


@pytest.fixture(scope="module")
def gpu() -> Planted:
    return planted(0)


@pytest.fixture(scope="module")
def both(gpu: Planted) -> tuple[GpuCalibration, Profile]:
    grids = measured(gpu, 0)
    return fitted(grids), fitted_alone(grids[SMALL])


def off(gpu: Planted, guess: Profile) -> tuple[float, float]:
    """The most that time and joules of one workload at batch 1 and 64 differ from the truth, relative."""
    pairs = [workloads(profile, ["agentic"], (1, 64)) for profile in (guess, gpu.profile(THIRD))]
    times = [abs(a.makespan_s / b.makespan_s - 1) for a, b in zip(*pairs, strict=True)]
    joules = [abs((a.energy.gpu_j or 0) / (b.energy.gpu_j or 1) - 1) for a, b in zip(*pairs, strict=True)]
    return max(times), max(joules)


def test_another_model_is_foretold_by_several_not_by_one(gpu: Planted, both: tuple[GpuCalibration, Profile]) -> None:
    """Constants of several sizes give another one's time within 5 % and joules within 7 %; those of one size do not."""
    found, alone = both
    time, joules = off(gpu, put_together("found", found.file, THIRD))
    assert time < 0.05 and joules < 0.07
    assert off(gpu, replace(gpu.profile(THIRD), timing=alone.timing, power=alone.power))[0] > 0.05


@pytest.mark.parametrize("name", ["compute_efficiency", "memory_efficiency", "cache_efficiency"])
def test_efficiencies_are_the_gpus(gpu: Planted, both: tuple[GpuCalibration, Profile], name: str) -> None:
    assert getattr(both[0].file.timing, name) == pytest.approx(getattr(gpu.file.timing, name), rel=0.05)


@pytest.mark.parametrize("name", ["per_layer_s", "per_step_s"])
def test_a_shape_of_fewer_layers_parts_what_a_layer_takes_from_what_a_step_takes(
    gpu: Planted, both: tuple[GpuCalibration, Profile], name: str
) -> None:
    assert getattr(both[0].file.timing, name) == pytest.approx(getattr(gpu.file.timing, name), rel=0.2)
    assert both[0].known[f"timing.{name}"] < 0.2


def test_what_the_host_does_for_a_layer_is_told_from_what_it_does_for_a_step(
    gpu: Planted, both: tuple[GpuCalibration, Profile]
) -> None:
    assert both[0].file.layer["host_eager_s"] == pytest.approx(gpu.file.layer["host_eager_s"], rel=0.15)


def test_what_the_models_say_nothing_of_is_named(both: tuple[GpuCalibration, Profile]) -> None:
    assert "timing.memory_knee" in both[0].undetermined
    assert "timing.cache_efficiency" not in both[0].undetermined
    assert set(both[0].as_json()["not_determined"]) == both[0].undetermined


def test_its_file_and_a_models_name_are_a_profile(both: tuple[GpuCalibration, Profile], tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    write_gpu(both[0].file, path)
    profile = load_profile(f"{tmp_path}/mine-{THIRD}")
    assert (profile.name, profile.calibrated, profile.expected_error) == (f"mine-{THIRD}", True, None)
    assert profile.timing == both[0].file.timing_of(profile.model)
    assert profile.timing.host_eager_s > both[0].file.timing.host_eager_s
    assert profile.provenance["base"] == f"{GPU}-{SMALL}, {GPU}-{LARGE}, {GPU}-{CUT}"
    assert not load_profile(f"{tmp_path}/mine-{LARGE}-tp2").calibrated
    with pytest.raises(RejouleError, match=r"of a GPU, and of no model.*mine-llama"):
        load_profile(str(path))


def test_runs_that_do_not_go_together_are_refused() -> None:
    small, large, other = compose(GPU, SMALL), compose(GPU, LARGE), compose("a100", "qwen3-8b")
    for bases, why in (
        ((small, small), "same model"),
        ((small, other), "not both of one"),
        ((compose(GPU, LARGE, 2), small), "not both of one"),
        ((small, compose(GPU, LARGE, 2)), "not both of one"),
        ((small, large), "no engine"),
    ):
        with pytest.raises(RejouleError, match=why):
            calibrate_gpu("x", [Size(base, []) for base in bases])


def test_runs_of_another_model_than_their_base_are_refused(both: tuple[GpuCalibration, Profile], blank: Run) -> None:
    run = changed(blank, engine={"model": f"/models/{LARGE}"})
    with pytest.raises(RejouleError, match="in the order of RUNS"):
        calibrate_gpu("x", [Size(compose(GPU, SMALL), [run]), Size(compose(GPU, LARGE), [])])


def test_simulated_runs_in_another_order_than_their_bases_are_refused(blank: Run) -> None:
    """They tell no model, but their profile."""
    run = changed(blank, engine={"profile": f"{GPU}-{LARGE}"})
    with pytest.raises(RejouleError, match="in the order of RUNS"):
        calibrate_gpu("x", [Size(compose(GPU, SMALL), [run]), Size(compose(GPU, LARGE), [])])


def test_a_fit_that_failed_is_said_to_have(gpu: Planted, both: tuple[GpuCalibration, Profile]) -> None:
    """Of a run that does not tell that it is of another model."""
    wrong = {CUT: SMALL, SMALL: LARGE}
    sizes = [Size(compose(GPU, base), [watched(gpu.profile(model), model, 0)]) for base, model in wrong.items()]
    found = calibrate_gpu("x", sizes, timing_only=True)
    assert any("do not trust what was fitted" in note for note in found.notes)
    assert not any("do not trust" in note for note in both[0].notes)


@pytest.fixture
def blank(gpu: Planted) -> Run:
    return workloads(gpu.profile(SMALL), ["agentic"], (64,))[0]


def test_the_command_fits_a_gpu_from_as_many_runs_as_bases(tmp_path: Path) -> None:
    words: list[str] = ["-o", str(tmp_path / "mine.json"), "--timing-only", "--json"]
    for model in (SMALL, LARGE):
        base = f"{GPU}-{model}-tp1"
        trace = tmp_path / f"{model}.jsonl.zst"
        made = CliRunner().invoke(calibrate, ["--quick", "--grid-only", "-o", str(trace), "--base", base, *TINY])
        assert made.exit_code == 0, made.output
        sim = ["--profile", base, "--max-num-seqs", "8"]
        ran = CliRunner().invoke(replay, [str(trace), "-o", str(tmp_path / model), *sim])
        assert ran.exit_code == 0, ran.output
        words += [str(tmp_path / model), "--base", base]
    result = CliRunner().invoke(calibrate, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert set(told["errors"]) == {f"{GPU}-{SMALL}", f"{GPU}-{LARGE}"}
    assert told["provenance"]["base"] == f"{GPU}-{SMALL}, {GPU}-{LARGE}"
    assert all(errors["all"]["mape"] < 0.02 for errors in told["errors"].values())
    with pytest.raises(RejouleError, match="1 RUNS and 2 --base"):
        CliRunner().invoke(calibrate, words[:4] + words[5:], catch_exceptions=False, standalone_mode=False)


@pytest.mark.parametrize("name", ["qwen3-32b", "qwen3-32b-16-layers", "qwen3-8b", "llama-3.1-8b", "llama-2-7b"])
def test_a_models_folder_has_the_weights_that_the_simulator_counts(name: str) -> None:
    """A configuration made of a shape has as many parameters as its profile."""
    model, told = load_profile(f"{GPU}-{name}-tp1").model, config(name)
    each = attention(model, name.startswith("qwen3")) + 3 * model.hidden_size * told["intermediate_size"]
    assert model.layers * each + model.hidden_size == model.layer_parameters
    assert msgspec.json.decode(json.dumps(told))["num_hidden_layers"] == model.layers


def test_a_model_that_was_not_measured_is_said_to_have_others_constants(
    both: tuple[GpuCalibration, Profile], tmp_path: Path
) -> None:
    """Wherever its runs are read; one of those that were measured needs no such note."""
    write_gpu(both[0].file, tmp_path / "mine.json")
    third, large = (simulated(profile=f"{tmp_path}/mine-{model}") for model in (THIRD, LARGE))
    (note,) = worth_notes([third])
    assert note.startswith(f"fitted to other models (mine-{THIRD}): to {SMALL}, {LARGE}, {CUT};")
    assert "nor how far off its figures are" in note
    assert list(worth_notes([large])) == []
    assert (third.engine["fitted_together"], third.engine["fitted_to_others"] is None) == (None, False)
    real = changed(large, configuration=changed(large.configuration, engine="vllm", profile=None))
    told = validate([large], [real]).notes[-1]
    assert f"mine-{LARGE} (fitted to {SMALL}, {LARGE}, {CUT} together: its model is among them)" in told


def test_an_unknown_constant_of_a_layer_is_a_spoilt_file(both: tuple[GpuCalibration, Profile], tmp_path: Path) -> None:
    path = tmp_path / "my gpu.json"
    write_gpu(replace(both[0].file, layer={"host_eager_s": 1e-6}), path)
    assert load_profile(f"{tmp_path}/my gpu-{THIRD}-tp2").tensor_parallel == 2
    for name in ("nothing_s", "host_serial_s"):
        text = path.read_text().replace('"host_eager_s": 1e-6', f'"{name}": 1e-6')
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(RejouleError, match=f"layer has {name}"):
            load_profile(f"{tmp_path}/bad-{THIRD}")

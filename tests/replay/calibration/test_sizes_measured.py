"""Measured grids of several models are judged by what is there, and what is not, or not of one card, is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from benchmarks.gpu.keep import keep
from benchmarks.shipped_gpu import PATH
from benchmarks.sizes import AIMS, CUT, LARGE, LIMITS, MODELS, SMALL, Planted, planted, watched
from benchmarks.sizes_measured.__main__ import report
from benchmarks.sizes_measured.fits import SHEET, SHIPPED, Constants, constants, words_of
from benchmarks.sizes_measured.parts import JUDGE, PARTS, Measured, Part, read
from benchmarks.sizes_measured.workloads import judged
from benchmarks.validation import DATA, ran, written

from rejoule.replay.sim.shipped import GpuFile, load_profile
from rejoule.traces import RejouleError
from rejoule.traces.run import Conditions, Configuration, Run
from rejoule.traces.runs import Experiment, PlannedRun, create, load_runs, save_run

CARD = Conditions(gpus=("GPU-1",), gpu_names=("NVIDIA H200",), host="one", driver="580")
MADE = {SMALL: "small", CUT: "cut", LARGE: "large"}
CALLS = (64, 1)


@pytest.fixture(scope="module")
def gpu() -> Planted:
    return planted(0)


@pytest.fixture(scope="module")
def folder(gpu: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``two_sizes.sh`` leaves, of a made-up GPU and one workload."""
    out = tmp_path_factory.mktemp("two-sizes")
    for model, name in MADE.items():
        write(out / name, [served(watched(gpu.profile(model), model, 0), model)])
    trace = load_runs(DATA / "workloads").traces["agentic"]
    with written(gpu.profile(LARGE)) as path:
        runs = []
        for calls in CALLS:
            knobs = Configuration(
                profile=path, max_num_seqs=64, concurrency=calls, output_scale=0.5, arrivals="burst",
                options={"num_gpu_blocks": 12500},
            )  # fmt: skip
            runs.append(served(ran(trace, knobs, "agentic", f"agentic-{calls}"), LARGE))
    write(out / "judge", runs)
    return out


def served(run: Run, model: str) -> Run:
    """A run as a vLLM server's, whose model has a path of the machine."""
    options = {**run.configuration.options, "model": f"/models/{model}"}
    engine = {"engine": "vllm", "version": "0.26.0", "model": f"/models/{model}", "num_gpu_blocks": 12500}
    knobs = replace(run.configuration, engine="vllm", profile=None, options=options)
    energy = replace(run.energy, source={"gpu": "nvml-counter"})
    return replace(run, configuration=knobs, engine=engine, conditions=CARD, energy=energy)


def write(path: Path, runs: Sequence[Run]) -> None:
    planned = tuple(PlannedRun(run.id, run.trace, run.configuration, run.trial) for run in runs)
    create(path, Experiment({}, planned, 1, 0, ""), {})
    for run in runs:
        save_run(path, run)


@pytest.fixture(scope="module")
def measured(folder: Path) -> Measured:
    return read(folder, {})


@pytest.fixture(scope="module")
def lines(measured: Measured) -> list[str]:
    return list(report(measured, "made up", LIMITS.cell_s))


def row_of(lines: Sequence[str], *words: str) -> list[str]:
    return next(cells for line in lines if (cells := line.strip("| ").split(" | "))[: len(words)] == list(words))


def sizes(cell: str) -> list[float]:
    return [abs(float(word.strip().rstrip("%"))) for word in cell.split(",")]


def test_the_fit_of_all_models_is_judged_better_than_that_of_one(lines: Sequence[str]) -> None:
    """In the largest one's workload time and joules, against the aims."""
    several, alone = row_of(lines, words_of((SMALL, CUT, LARGE))), row_of(lines, words_of((SMALL,)))
    assert sizes(several[1])[0] < 2 < sizes(alone[1])[0]
    assert [
        line for line in lines if line.startswith("- workflow time, fitted to 8B + 16 layers + 32B") and "met" in line
    ]
    assert row_of(lines, "agentic", "concurrency 1") and row_of(lines, "agentic", "concurrency 64")


def test_constants_are_told_with_how_well_each_fit_knows_them(lines: Sequence[str], gpu: Planted) -> None:
    """Last that of all models; what one model alone does not tell is not shown as if it did."""
    heads, found = row_of(lines, "constant"), row_of(lines, "timing.memory_efficiency")
    assert heads[1:3] == [SHEET, SHIPPED] and heads[-1] == words_of((SMALL, CUT, LARGE))
    value, width = found[-1].split(" ± ")
    assert float(value) == pytest.approx(gpu.file.timing.memory_efficiency, rel=0.05) and sizes(width)[0] < 5
    assert row_of(lines, "timing.cache_efficiency")[heads.index("8B")] == "–"


@pytest.mark.parametrize("model", ["8B", "16 layers", "32B"])
def test_a_lone_decode_is_held_against_every_fit(lines: Sequence[str], model: str) -> None:
    """By the time of its steps, and what they reach of the data sheet's bandwidth."""
    found = row_of(lines, model, "lone decode at 128 tokens")
    assert 50 < sizes(found[3])[0] < 95
    assert sizes(found[-1].split(",")[0])[0] < 2


def test_what_is_kept_is_read_as_what_was_made(folder: Path, tmp_path: Path) -> None:
    """By its names in ``benchmarks/h200``, and each model by its own."""
    for part in PARTS:
        keep(folder / part.made, tmp_path / part.kept)
    kept = read(tmp_path, {})
    assert list(kept.runs) == list(PARTS)
    assert [str(runs[0].engine["model"]) for runs in kept.runs.values()] == [part.model for part in PARTS]
    assert len(kept.workloads) == len(CALLS)


def test_of_parts_that_are_missing_what_can_be_judged_is(folder: Path) -> None:
    """And which fits were left out is said, and which cells."""
    some = read(folder / "nowhere", {part: folder / part.made for part in PARTS if part.model == LARGE})
    assert sum("left out" in note for note in some.notes) == 2
    assert any("not judged: agentic x 8" in note for note in some.notes)
    ways, left_out = constants(some.grids)
    assert [way.words for way in ways] == [SHEET, SHIPPED, "32B"]
    assert len(left_out) == 5
    with pytest.raises(RejouleError, match="holds none of sizes-8b or small"):
        read(folder / "nowhere", {})


@pytest.mark.parametrize(("around", "what"), [({"gpus": ("GPU-2",)}, "card"), ({"host": "two"}, "host")])
def test_parts_of_other_cards_and_hosts_are_said_to_be(
    folder: Path, tmp_path: Path, around: dict[str, object], what: str
) -> None:
    """Since what cards differ by is taken for what sizes differ by."""
    (run,) = load_runs(folder / "small").runs
    write(tmp_path, [replace(run, conditions=replace(CARD, **around))])  # type: ignore[arg-type]
    small: dict[Part, Path | None] = {PARTS[0]: tmp_path}
    assert any(f"the parts are of 2 different {what}s" in note for note in read(folder, small).notes)
    assert not any("different" in note for note in read(folder, {}).notes)


def test_runs_of_another_model_and_simulated_ones_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RejouleError, match=f"is of {CUT}"):
        read(folder, {PARTS[0]: folder / "cut"})
    (run,) = load_runs(folder / "small").runs
    write(tmp_path, [replace(run, configuration=replace(run.configuration, engine="sim"))])
    with pytest.raises(RejouleError, match="was simulated"):
        read(folder, {PARTS[0]: tmp_path})
    assert any("nothing was measured" in note for note in read(folder, {PARTS[0]: tmp_path}, stand_in=True).notes)


def test_a_server_whose_model_has_nobodys_name_is_said_to_be_taken_for_one(folder: Path, tmp_path: Path) -> None:
    """As the folder of the 8B model may be called anything."""
    (run,) = load_runs(folder / "small").runs
    write(tmp_path, [replace(run, engine={**run.engine, "model": "/models/my-model"})])
    notes = read(folder, {PARTS[0]: tmp_path}).notes
    assert any(f"calls the model my-model, taken for {SMALL}" in note for note in notes)
    assert JUDGE.model == LARGE and set(MADE) == set(MODELS)


def test_the_constants_that_ship_foretell_the_largest_model_within_the_aims() -> None:
    """Of the card that they were fitted to, in workloads that they were not; what they are worth is in each profile."""
    ships = msgspec.json.decode(PATH.read_bytes(), type=GpuFile)
    found = judged([run for run in read(DATA, {}).workloads if run.trace == "agentic"], Constants("", ships, {}))
    rows = {row.metric: row.mape for row in found.rows}
    assert all(rows[metric] < aim for metric, aim in AIMS.items())
    assert load_profile("h200-qwen3-8b").expected_error == ships.expected_error is not None

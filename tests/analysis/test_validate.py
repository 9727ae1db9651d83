"""Simulated runs are held against measured ones by trace, knobs and trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from tests.analysis import builders

from rejoule.analysis.cli.validate import validate as command
from rejoule.analysis.validate import Validation, as_json, validate
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Energy, Run
from rejoule.traces.runs import Experiment, PlannedRun, create, save_run
from rejoule.traces.store import trace_digest

SOURCE = builders.trace()
BATCHES = (1, 2, 8)


def simulated(scale: float = 1.0) -> list[Run]:
    return [builders.run(SOURCE, batch, scale=scale) for batch in BATCHES]


def measured(spread: float = 0.001, joules: dict[int, float] | None = None) -> list[Run]:
    """Three trials of each batch size, whose joules are spread by so much."""
    runs = []
    for batch in BATCHES:
        for trial in range(3):
            run = builders.run(SOURCE, batch, trial=trial, engine="vllm", energy_source="nvml-counter")
            gpu_j = (joules or {}).get(batch, run.energy.gpu_j or 0.0) * (1 + spread * (trial - 1))
            configuration = replace(run.configuration, profile=None, options={"model": "m"}, seed=trial)
            runs.append(replace(run, configuration=configuration, energy=replace(run.energy, gpu_j=gpu_j)))
    return runs


def row(found: Validation, metric: str) -> float:
    return next(r.bias for r in found.rows if r.metric == metric)


def test_equal_runs_have_no_error_and_agree_everywhere() -> None:
    found = validate(simulated(), measured())
    assert all(abs(r.mape) < 1e-9 for r in found.rows)
    assert found.agreement == 1.0
    assert all(found.ranks().values())
    assert found.verdict.startswith("good")


def test_what_a_run_is_measured_with_is_no_knob_and_that_it_differs_is_said() -> None:
    apart = [
        replace(run, configuration=replace(run.configuration, options={"model": "m", "warm_up": run.trial > 0}))
        for run in measured()
    ]
    found = validate(simulated(), apart)
    assert found.agreement == 1.0 and all(len(r.cells) == len(BATCHES) for r in found.rows)
    assert "measured with more than one warm up, and taken for trials of one thing" in found.notes
    assert not any("warm up" in note for note in validate(simulated(), measured()).notes)


def test_a_server_that_does_not_tell_its_gpus_is_taken_for_one_and_that_is_said() -> None:
    foreign = [
        replace(run, engine={}, configuration=replace(run.configuration, engine="http://server")) for run in measured()
    ]
    told = [replace(run, engine={"tensor_parallel_size": 1}) for run in foreign]
    words = "did not tell over how many GPUs"
    assert any(note.startswith("9 measured runs") and words in note for note in validate(simulated(), foreign).notes)
    assert not any(words in note for runs in (told, measured()) for note in validate(simulated(), runs).notes)


def test_an_error_is_relative_to_what_was_measured() -> None:
    found = validate(simulated(scale=1.1), measured())
    assert row(found, "GPU energy") == pytest.approx(0.1)
    assert row(found, "average power") == pytest.approx(0.1)
    assert row(found, "makespan") == pytest.approx(0.0)


def test_a_difference_below_its_noise_is_not_judged() -> None:
    joules = {1: 1000.0, 2: 1001.0, 8: 500.0}
    found = validate(simulated(), measured(0.02, joules))
    energy = {(d.a, d.b): d for d in found.differences if d.metric == "GPU energy"}
    assert [d.decisive for d in energy.values()] == [False, True, True]


def test_what_the_meter_does_not_know_is_noise_too() -> None:
    certain = measured()
    unsure = [replace(r, energy=replace(r.energy, uncertainty_j={"gpu": 1e6})) for r in certain]
    assert any(d.decisive for d in validate(simulated(), certain).differences if d.metric == "GPU energy")
    assert not any(d.decisive for d in validate(simulated(), unsure).differences if d.metric == "GPU energy")


def test_the_wrong_order_is_told() -> None:
    found = validate(simulated(), measured(joules={1: 100.0, 2: 200.0, 8: 300.0}))
    wrong = [d for d in found.decisive if not d.agrees]
    assert {d.metric for d in wrong} >= {"GPU energy"}
    assert not found.ranks()["GPU energy", "agentic"]
    assert found.verdict.startswith("poor")


def test_what_was_not_measured_is_left_out_and_not_zero() -> None:
    blind = [replace(run, energy=Energy()) for run in measured()]
    found = validate(simulated(), blind)
    assert "GPU energy" not in {r.metric for r in found.rows}
    assert "makespan" in {r.metric for r in found.rows}


def test_unequal_work_and_lone_configurations_are_noted() -> None:
    longer = [replace(r, calls=(replace(r.calls[0], output_tokens=999), *r.calls[1:])) for r in measured()]
    found = validate([*simulated(), builders.run(SOURCE, 64)], longer)
    assert any("did not do the same work" in note for note in found.notes)
    assert any("1 simulated" in note for note in found.notes)


def test_sides_of_the_wrong_kind_or_without_a_match_are_refused() -> None:
    with pytest.raises(RejouleError, match="was not simulated"):
        validate(measured(), simulated())
    with pytest.raises(RejouleError, match="was simulated"):
        validate(simulated(), simulated())
    with pytest.raises(RejouleError, match="no simulated run has the trace and the knobs"):
        validate([builders.run(SOURCE, 3)], measured())


def test_the_command_prints_a_verdict_and_json(tmp_path: Path) -> None:
    folders = [written(tmp_path / "sim", simulated()), written(tmp_path / "real", measured())]
    shown = CliRunner().invoke(command, folders)
    assert shown.exit_code == 0, shown.output
    assert "good: " in shown.output
    told = CliRunner().invoke(command, [*folders, "--json"])
    body = orjson.loads(told.output)
    assert body["agreement"] == 1.0
    assert body == orjson.loads(orjson.dumps(as_json(validate(simulated(), measured()))))


def written(folder: Path, runs: list[Run]) -> str:
    plans = tuple(PlannedRun(r.id, r.trace, r.configuration, r.trial) for r in runs)
    create(folder, Experiment({"agentic": trace_digest(SOURCE)}, plans, 3, 0, ""), {"agentic": SOURCE})
    for run in runs:
        save_run(folder, run)
    return str(folder)


def with_options(runs: list[Run], **options: object) -> list[Run]:
    return [
        replace(r, configuration=replace(r.configuration, options={**r.configuration.options, **options})) for r in runs
    ]


def test_options_of_both_engines_tell_cells_apart() -> None:
    """What is simulated without CUDA graphs is held against what was measured so; a default that is given is one."""
    sim = simulated() + with_options(simulated(2.0), enforce_eager=True)
    real = with_options(measured(), enforce_eager=False)
    slow = with_options([replace(r, energy=replace(r.energy, gpu_j=2 * (r.energy.gpu_j or 0))) for r in measured()],
                        enforce_eager=True)  # fmt: skip
    found = validate(sim, real + slow)
    energy = next(r for r in found.rows if r.metric == "GPU energy")
    assert len(energy.cells) == 2 * len(BATCHES) and energy.mape < 1e-9
    assert {c.configuration.split(", ")[-1] for c in energy.cells} == {"CUDA graphs", "no CUDA graphs"}
    lone = validate(simulated(), real + slow)
    assert any(f"{len(BATCHES)} measured configurations without a counterpart" in note for note in lone.notes)


def test_an_option_that_only_one_side_turned_matches_nothing() -> None:
    with pytest.raises(RejouleError, match="enforce_eager=True"):
        validate(with_options(simulated(), enforce_eager=True), measured())


def test_how_much_the_cache_holds_need_not_be_said_alike() -> None:
    """Blocks that one side pins are no other configuration, but where there were more of them is told."""
    sim = [replace(r, engine={**r.engine, "num_gpu_blocks": 50}) for r in simulated()]
    real = [replace(r, engine={**r.engine, "num_gpu_blocks": 40}) for r in with_options(measured(), num_gpu_blocks=40)]
    assert "simulated with 50 KV blocks, measured with 40" in validate(sim, real).notes


def test_a_profile_of_two_gpus_is_what_a_server_on_two_is() -> None:
    """However each side came to its number of GPUs, equal ones match and unequal ones do not."""

    def on(runs: list[Run], **engine: int) -> list[Run]:
        return [replace(r, engine={**r.engine, **engine}) for r in runs]

    two = with_options(measured(), tensor_parallel_size=2)
    for sim in (on(simulated(), gpus=2), with_options(simulated(), tensor_parallel_size=2)):
        assert len(validate(sim, two).rows[0].cells) == len(BATCHES)
        assert validate(sim, on(measured(), tensor_parallel_size=2)).rows[0].mape < 1e-9
        with pytest.raises(RejouleError, match="tensor_parallel_size=2"):
            validate(sim, on(measured(), tensor_parallel_size=1))

"""Where a profile was not fitted to measurements, every reader of its figures is told what such figures were off by."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache

import pytest
from tests.analysis import builders

from rejoule.analysis.comparison.allowance import LEAD, model_error
from rejoule.analysis.diff import compare
from rejoule.analysis.energy import error_notes
from rejoule.analysis.findings.effect import effect
from rejoule.analysis.gate import conditions, judge
from rejoule.analysis.methods import side_by_side
from rejoule.analysis.pairing import pair
from rejoule.analysis.sensitivity import sensitivities
from rejoule.analysis.summary.cells import gather
from rejoule.analysis.summary.lines import run_notes
from rejoule.analysis.validate import validate
from rejoule.replay.embedded.server import ServerThread
from rejoule.replay.engines.open import open_engine
from rejoule.replay.replay import replay
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.engine_options import NCCL_ALONE
from rejoule.traces.modelled import modelled_notes, worth, worth_notes
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.summary import summary

SHEET = "a100-llama-3.1-8b"
TOGETHER, OTHERS = "h200-qwen3-32b", "h200-qwen3-8b"
"""Put together of constants that were fitted to several models: to its own as well, and to others alone."""


@cache
def simulated(profile: str, batch: int = 8) -> Run:
    return ran(Configuration(profile=profile, max_num_seqs=batch))


def ran(knobs: Configuration) -> Run:
    plan = PlannedRun(f"{knobs.profile}-{knobs.max_num_seqs}", "trace", knobs, 0)
    return asyncio.run(replay(builders.trace(2), plan, "", open_engine))


def test_a_profile_from_data_sheets_says_what_such_a_one_was_off_by() -> None:
    """In joules, workflow time and first tokens, on which GPU, and that it is no bound; once for all of its runs."""
    (note,) = worth_notes([simulated(SHEET), simulated(SHEET, 1)])
    assert note.startswith(f"uncalibrated ({SHEET}): on an H200 with llama-3.1-8b such a profile was off by")
    assert all(words in note for words in ("% in joules", "in workflow time", "first token", "not a bound"))
    for notes in (modelled_notes, run_notes, error_notes):
        assert note in notes([simulated(SHEET)])
    few, many = simulated(SHEET), simulated(SHEET, 1)
    assert compare(pair([few], [many])).notes.count(note) == 1
    assert side_by_side([few])[0].notes == (note,)
    (moved,) = sensitivities([few, many], {})
    assert moved.notes.count(note) == 1
    measured = replace(few, configuration=replace(few.configuration, engine="vllm", profile=None), engine={})
    assert validate([few], [measured]).notes.count(note) == 1


@pytest.mark.parametrize("profile", [TOGETHER, OTHERS])
def test_a_profile_of_constants_fitted_to_a_card_says_which_and_what_such_a_one_was_off_by(profile: str) -> None:
    """On other cards; and whether its own model was among those that they were fitted to."""
    run = simulated(profile)
    *others, note = worth_notes([run, simulated(profile, 1)])
    assert note.startswith(f"put together ({profile}): of constants fitted") and "uncalibrated" not in note
    assert all(words in note for words in ("on GPU-71500862;", "four other H200s", "% in joules", "not a bound"))
    assert ("its own model among them" in note) is (profile == TOGETHER)
    assert [line.startswith("fitted to other models") for line in others] == [True] * (profile == OTHERS)
    told = summary(run)
    assert (told["uncalibrated"], told["engine"]["calibrated"]) == (False, True)
    known = load_profile(profile).expected_error
    assert known is not None and told["example_error"]["figures"]["GPU energy"]["worst"] == known.figures[LEAD].worst
    assert "benchmarks.shipped_gpu" in known.source
    assert "qwen3-32b left out of the fit" in note and "left out" not in str(known.found_on)
    measured = replace(run, configuration=replace(run.configuration, engine="vllm", profile=None), engine={})
    assert sum("among them" in told for told in validate([run], [measured]).notes) == (profile == TOGETHER)


def test_it_was_off_by_less_than_one_of_data_sheets() -> None:
    fitted, sheet = (load_profile(name).expected_error for name in (TOGETHER, SHEET))
    assert fitted is not None and sheet is not None
    for figure in ("GPU energy", "workflow time", "time to first token, mean"):
        assert fitted.figures[figure].mean < sheet.figures[figure].mean / 2


@pytest.mark.parametrize("profile", [f"{TOGETHER}-tp2", f"{OTHERS}-tp2"])
def test_what_was_fitted_to_one_gpu_is_not_calibrated_for_several(profile: str) -> None:
    *others, note = worth_notes([simulated(profile)])
    assert note.startswith(f"uncalibrated ({profile})") and "is not known" in note
    assert len(others) == profile.startswith(OTHERS)
    name = profile.removesuffix("-tp2")
    told = list(worth_notes([ran(Configuration(profile=name, options={"tensor_parallel_size": 2}))]))
    assert [line.partition(" (")[0] for line in told] == [line.partition(" (")[0] for line in (*others, note)]


def test_machines_are_told_the_same() -> None:
    told = summary(simulated(SHEET))
    assert told["uncalibrated"] is True
    assert (
        told["example_error"]["figures"]["GPU energy"]["worst"]
        >= told["example_error"]["figures"]["GPU energy"]["mean"]
        > 0
    )


def test_a_server_of_a_simulated_engine_says_what_its_profile_is_worth() -> None:
    """As a run in virtual time does: its joules are the same model's."""
    config = EngineConfig(load_profile(SHEET))
    with ServerThread(config, "sim", any_model=True, time_scale=100) as url:
        plan = PlannedRun("served", "trace", Configuration(engine=f"{url}/v1"), 0)
        served = asyncio.run(replay(builders.trace(2), plan, "", open_engine))
    assert not served.measured and worth(served) == worth(simulated(SHEET))
    assert list(worth_notes([served])) == list(worth_notes([simulated(SHEET)]))
    assert summary(served)["uncalibrated"] is True


def test_a_fitted_profile_and_a_measured_run_say_nothing_of_the_kind() -> None:
    fitted = simulated("h200-llama-3.1-8b")
    measured = replace(fitted, configuration=Configuration(engine="vllm"), engine={})
    for run in (fitted, measured):
        assert not list(worth_notes([run]))
        assert (summary(run)["uncalibrated"], worth(run)) == (False, None)


def test_of_several_gpus_it_is_said_that_nothing_is_known() -> None:
    (note,) = worth_notes([simulated(f"{SHEET}-tp2")])
    assert "is not known" in note
    assert load_profile(f"{SHEET}-tp2").expected_error is None


@pytest.mark.parametrize(
    ("profile", "options", "concurrency", "says"),
    [
        (None, {"tensor_parallel_size": 2}, None, []),
        (
            "h200-llama-3.1-8b-tp2",
            {NCCL_ALONE: True},
            8,
            ["one at a time, not together: all-reduces by NCCL alone with"],
        ),
        (None, {"tensor_parallel_size": 2, NCCL_ALONE: True}, None, []),
        (None, {"tensor_parallel_size": 4}, None, ["uncalibrated", "never held against a measured run: 4 GPUs"]),
        (SHEET, {"tensor_parallel_size": 2}, None, ["uncalibrated", "never held against a measured run: 2 GPUs"]),
        (
            None,
            {"tensor_parallel_size": 2, "enforce_eager": True},
            None,
            ["never held against a measured run: no CUDA graphs"],
        ),
    ],
)
def test_that_several_gpus_were_never_measured_is_said_where_it_is_so(
    profile: str | None, options: dict[str, object], concurrency: int | None, says: list[str]
) -> None:
    """Two H200s with the default model were, exchanging in both ways, by NCCL alone with any number of calls."""
    notes = list(modelled_notes([ran(Configuration(profile=profile, options=options, concurrency=concurrency))]))
    assert len(notes) == len(says) and all(word in note for word, note in zip(says, notes, strict=True))


def test_its_differences_are_allowed_an_example_of_another_gpus_error() -> None:
    found = model_error([simulated(SHEET), simulated(SHEET, 1)])
    known = load_profile(SHEET).expected_error
    assert known is not None and found.errors[LEAD] == known.metrics[LEAD].p95
    assert found.example and not model_error([simulated("h200-llama-3.1-8b", n) for n in (1, 8)]).example
    (note,) = found.notes
    assert f"{SHEET}, which was not fitted to measurements: on an H200" in note and "an example and not a bound" in note
    (note,) = model_error([simulated(TOGETHER), simulated(TOGETHER, 1)]).notes
    assert f"{TOGETHER}, which is put together of constants fitted on one card: on four other H200s" in note


@pytest.mark.parametrize("profile", [SHEET, TOGETHER, "h200-llama-3.1-8b"])
def test_an_interval_by_an_example_is_not_called_the_models_known_error(profile: str) -> None:
    """In the headline, the rows and what a bound is held against."""
    found = compare(pair([simulated(profile)], [simulated(profile, 1)]))
    known = profile == "h200-llama-3.1-8b"
    assert ("within the model's known error" in found.headlines[0]) is known
    assert ("within the error allowed for" in found.headlines[0]) is not known
    assert {row.error_known for row in found.of("workload") if row.name == LEAD} == {known}
    (judged,) = judge(found, conditions(["joules > -50%"]))
    assert ("example" in str(judged)) is not known


def test_under_caps_a_clock_curves_width_is_added_to_an_example_and_none_is_the_models_own() -> None:
    """To allow for less where less is known would make verdicts surer. Of any other knob an example says nothing."""
    few = simulated(SHEET)
    capped = ran(replace(few.configuration, power_cap_w=100.0))
    plain, found = model_error([few, simulated(SHEET, 1)]), model_error([capped, few])
    assert (found.of("workload", LEAD) or 0.0) > (plain.of("workload", LEAD) or 1.0)
    assert not found.knows("workload", LEAD) and found.borrows("workload", LEAD)
    scaled = model_error([replace(few, configuration=replace(few.configuration, output_scale=2.0)), few])
    assert not scaled.errors
    assert any(f"such as {SHEET} were off by on an H200" in n and "batch size alone" in n for n in scaled.notes)
    assert not any(f"those of {SHEET}" in note for note in scaled.notes)


@pytest.mark.parametrize("figure", ["GPU energy", "workflow time", "time to first token, mean"])
def test_what_is_said_is_what_the_benchmark_wrote(figure: str) -> None:
    """Every profile that is put together of data sheets for one GPU states the same."""
    one, other = (load_profile(name).expected_error for name in (SHEET, "h200-data-sheet-qwen3-32b"))
    assert one is not None and other is not None and one == other
    assert 0 < one.figures[figure].mean <= one.figures[figure].worst
    assert "benchmarks.data_sheets" in one.source


def test_a_finding_by_an_example_of_its_error_is_still_the_models_word() -> None:
    """What another GPU's profile was off by is in the interval; that this one's error is known is not claimed."""
    for profile, known in ((SHEET, False), ("h200-llama-3.1-8b", True)):
        (workload,) = gather([simulated(profile, batch) for batch in (1, 8)], {})
        one, other = workload.cells
        assert effect(one, other, LEAD, any_work=False).error_known is known

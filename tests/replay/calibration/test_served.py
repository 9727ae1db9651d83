"""The grid is made for the server that it is measured on."""

from __future__ import annotations

from dataclasses import replace as changed
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from tests.replay.calibration.made import PROFILE, SMALL, simulated

from rejoule.replay.calibration.grid import Limits, grid
from rejoule.replay.calibration.outside import at_once
from rejoule.replay.calibration.served import assumed, limits_for, overrun, told_by
from rejoule.replay.cli.calibrate import calibrate
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces import RejouleError

NOTHING = dict.fromkeys(("max_num_seqs", "max_model_len", "kv_tokens"))


def test_limits_are_those_given_then_those_told_then_the_usual() -> None:
    told = {"max_model_len": 2048, "kv_tokens": 32_768}
    found = limits_for({**NOTHING, "max_num_seqs": 8}, told, cell_s=1.0)
    assert (found.max_num_seqs, found.max_model_len, found.kv_tokens) == (8, 2048, 32_768)
    assert found.max_num_batched_tokens == Limits().max_num_batched_tokens
    said = assumed({**NOTHING, "max_num_seqs": 8}, told, found)
    assert said is not None and "8,192 tokens a step" in said and "--max-num-batched-tokens" in said
    assert "--max-num-seqs" not in said


def test_a_server_with_more_room_than_the_grid_needs_gets_the_usual_grid() -> None:
    told = {"max_num_seqs": 1024, "max_model_len": 131_072, "kv_tokens": 1_000_000, "max_num_batched_tokens": 8192}
    assert limits_for(NOTHING, told, cell_s=1.2) == Limits()
    assert assumed(NOTHING, told, Limits()) is None


def test_more_than_the_server_takes_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(RejouleError, match=r"--max-model-len 4096 is more.*2,048.*at most 2048"):
        limits_for({**NOTHING, "max_model_len": 4096}, {"max_model_len": 2048}, cell_s=1.0)


def test_of_a_server_that_rejoule_starts_the_options_tell() -> None:
    options = {"num_gpu_blocks": 1024, "block_size": 32, "max_model_len": 2048, "model": "x"}
    assert told_by("vllm", options) == {"kv_tokens": 32_768, "max_model_len": 2048}


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(RejouleError, match="cannot reach a server"):
        told_by("http://127.0.0.1:1", {})


def test_a_grid_that_its_server_had_no_room_for_is_said() -> None:
    run = simulated()
    assert overrun(run, SMALL) is None
    small = changed(run, engine={"num_gpu_blocks": 64, "block_size": 16, "max_num_seqs": 4})
    said = overrun(small, SMALL)
    assert said is not None and "--kv-tokens 1024" in said and "--max-num-seqs 4" in said


def test_fewer_seats_than_the_grid_was_made_for_show_in_what_was_answered_at_once() -> None:
    run = simulated()
    assert at_once(run) == (SMALL.max_num_seqs, SMALL.max_num_seqs)
    few = changed(run, configuration=changed(run.configuration, max_num_seqs=8))
    late = tuple(
        changed(c, first_token_s=c.sent_s + 10 * i, end_s=c.sent_s + 10 * i + 1) for i, c in enumerate(few.calls)
    )
    assert at_once(changed(few, calls=late))[0] == 1


def test_token_ids_are_such_as_the_profiles_model_has() -> None:
    profile = load_profile(PROFILE)
    small = replace(profile, model=replace(profile.model, vocab_size=8192))
    calls = grid(small, SMALL).calls
    assert max(i for c in calls for i in (*(c.prompt_token_ids or ()), *(c.token_ids or ()))) < 8192


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "http://localhost:1"), "does not show its steps; add --quick"),
        (("--engine", "sim"), "add --timing-only"),
        (
            ("--engine", "vllm", "--base", "h200-llama-3.1-8b-tp4", "--option", "tensor_parallel_size=2"),
            "runs on 2 GPUs",
        ),
        (("--engine", "vllm", "--option", "enforce_eager=true"), "served without enforce_eager"),
        (("--quick", "--engine", "vllm", "--holdout", "x"), "use rejoule validate"),
        (("--quick", "--engine", "vllm"), "no GPU answers on this machine.*--timing-only"),
        (("--quick", "--engine", "vllm", "--option", "tensor_parallel_size=2"), "no GPU answers on this machine"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_it_is_measured(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(calibrate, [*words, "-o", str(tmp_path / "x.json")])
    with pytest.raises(RejouleError, match=said):
        raise done.exception or AssertionError(done.output)
    assert list(tmp_path.iterdir()) == []


def test_the_grid_has_no_longer_contexts_than_its_model_and_not_too_short_ones() -> None:
    assert limits_for(NOTHING, {}, cell_s=1.0, longest=4096).max_model_len == 4096
    assert limits_for({**NOTHING, "max_model_len": 8192}, {}, cell_s=1.0, longest=4096).max_model_len == 8192
    for told in ({"max_model_len": 300}, {"kv_tokens": 256}):
        with pytest.raises(RejouleError, match="too small for the grid; serve contexts of 512"):
            limits_for(NOTHING, told, cell_s=1.0)

"""What the simulated engine refuses, before anything runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.engines.sim import check_sim
from rejoule.replay.exactness.requests import digest, ids_digest
from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    """A misspelt option would otherwise be an experiment that was not asked for."""
    with pytest.raises(RejouleError, match="no option max_batched_tokens") as refused:
        check_sim(Configuration(options={"max_batched_tokens": 512}))
    assert "max_num_batched_tokens" in str(refused.value)


def test_options_of_the_run_are_taken() -> None:
    """How long to warm up is nothing to the engine, and no mistake."""
    check_sim(Configuration(options={"warm_up": False, "async_scheduling": False}))


@pytest.mark.parametrize("name", ["max_num_seqs", "max_num_batched_tokens", "num_gpu_blocks"])
@pytest.mark.parametrize("value", [-1, 0, 10**12])
def test_absurd_sizes_are_refused_by_name(name: str, value: int) -> None:
    """The message says which knob is wrong, and within what it must be."""
    configuration = (
        Configuration(max_num_seqs=value) if name == "max_num_seqs" else Configuration(options={name: value})
    )
    with pytest.raises(RejouleError, match=f"{name} is {value}") as refused:
        check_sim(configuration)
    assert "100000000" in str(refused.value)


@given(st.lists(st.integers(0, 2**49)))
def test_the_digest_of_ids_is_that_of_the_values(ids: list[int]) -> None:
    """Both ways give one digest, so runs of all engines can be compared."""
    assert ids_digest(ids) == digest(ids)
    assert ids_digest(tuple(ids)) == digest(ids)

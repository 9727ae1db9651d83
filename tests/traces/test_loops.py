"""A trace gone through several times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.traces import RejouleError
from rejoule.traces.check import problems
from rejoule.traces.loops import looped, pass_of
from rejoule.traces.testing import made_trace, made_workflow, random_trace


@given(seed=st.integers(0, 50), loops=st.integers(1, 4))
def test_passes_are_the_trace_again(seed: int, loops: int) -> None:
    """Every pass is a valid copy of the trace, under names of its own, the first under those of the trace."""
    trace = random_trace(seed)
    whole = looped(trace, loops)
    assert not problems(whole)
    size = len(trace.workflows)
    assert whole.workflows[:size] == trace.workflows
    assert len({call.id for call in whole.calls}) == loops * len(list(trace.calls))
    for i, workflow in enumerate(whole.workflows):
        assert pass_of(workflow.id) == i // size + 1
        assert {pass_of(name) for name in workflow.vertices} <= {i // size + 1}
        assert list(workflow.gaps_ns.values()) == list(trace.workflows[i % size].gaps_ns.values())


def test_names_that_look_like_passes_are_refused() -> None:
    with pytest.raises(RejouleError, match="w~2"):
        looped(made_trace([made_workflow([], {}, name="w~2")]), 1)

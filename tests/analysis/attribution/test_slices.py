"""What each call did in a stretch of time."""

from __future__ import annotations

from dataclasses import replace
from math import fsum

import pytest
from tests.analysis import builders

from rejoule.analysis.attribution.slices import slices_of
from rejoule.traces.run import CallResult, Step


def test_a_token_attends_to_those_before_it() -> None:
    """In a chunk of n tokens after c that is n (c + n/2), by steps and, spread over time, by the client's clock."""
    call = CallResult("a", "w", "x", 0.0, 0.0, 3.0, 2.0, 160, 0, 2)
    steps = (
        Step(0.0, 1.0, 1, 10.0, prefill=(("a", 100, 0),), prefill_context=(0,)),
        Step(1.0, 2.0, 1, 10.0, prefill=(("a", 60, 0),), prefill_context=(100,)),
        Step(2.0, 3.0, 1, 10.0, decode=(("a", 1),), decode_context=(160,)),
    )
    run = replace(builders.run(builders.trace(1)), calls=(call,), steps=steps, makespan_s=3.0)
    first, second, last = slices_of(run)
    assert first.prefill["a"].attended == pytest.approx(100 * 50)
    assert second.prefill["a"].attended == pytest.approx(60 * (100 + 30))
    assert last.decode["a"].attended == pytest.approx(160)
    seen = slices_of(replace(run, steps=None))
    assert fsum(work.attended for s in seen for work in s.prefill.values()) == pytest.approx(160 * 80)

"""What a run says of limits that it did not run under is true of the runs under them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis import builders

from rejoule.analysis.advice.reach import longer, most_under_way, pressed, same_with
from rejoule.replay.engines.open import open_engine
from rejoule.replay.replay import replay
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.testing import random_trace

TRIED = {
    "max_num_seqs": (1, 2, 3, 4, 6, 8, 16, 64, 256),
    "power_cap_w": (250.0, 400.0, 600.0, 700.0),
    "concurrency": (1, 2, 3, 5, 8, 40),
    "options.max_num_batched_tokens": (256, 512, 2048, 8192, 16384),
}
OPTION = "options."


def ran(seed: int, **knobs: Any) -> Run:
    trace = random_trace(seed, workflows=3)
    options = {name.removeprefix(OPTION): knobs.pop(name) for name in [*knobs] if name.startswith(OPTION)}
    configuration = Configuration(arrivals="burst", options=options, **knobs)
    return asyncio.run(replay(trace, PlannedRun("r", "t", configuration, 0), "", open_engine))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 300), st.sampled_from(sorted(TRIED)), st.data())
def test_what_is_said_to_be_the_same_run_is_the_same(seed: int, knob: str, data: st.DataObject) -> None:
    """To the last digit: every call, and the joules."""
    own = data.draw(st.sampled_from(TRIED[knob]))
    run = ran(seed, **{knob: own})
    for value in same_with(run, knob, TRIED[knob]):
        other = ran(seed, **{knob: value})
        assert (other.calls, other.energy.gpu_j) == (run.calls, run.energy.gpu_j), value


def test_limits_that_were_never_reached_are_seen() -> None:
    """Seats, calls in flight, tokens and watts to spare are told, with why; where they ran short, nothing is."""
    run = replace(ran(1, max_num_seqs=64), steps=())
    most = most_under_way(run)
    assert 1 < most < 64
    assert same_with(run, "max_num_seqs", (256,)) == {256: f"no more than {most} calls were under way at once"}
    assert set(same_with(run, "concurrency", (1, most - 1, most, 99))) == {most, 99}
    assert same_with(ran(1, max_num_seqs=1), "max_num_seqs", (2, 64)) == {}
    assert same_with(run, "policy", ("parrot",)) == {} and same_with(run, "max_num_seqs", (None,)) == {}
    assert same_with(replace(run, steps=None), "max_num_seqs", (256,)) == {}
    waves = replace(run, configuration=replace(run.configuration, batching="static"))
    assert same_with(waves, "max_num_seqs", (256,)) == same_with(waves, "concurrency", (99,)) == {}


def test_too_few_seats_make_a_run_longer_by_what_they_lack() -> None:
    """Two calls side by side take twice as long in one seat, and no less in more than two."""
    made = builders.run(builders.trace(1), 8)
    one, other = made.calls[0], made.calls[1]
    pair = replace(
        made, calls=(replace(one, sent_s=0.0, end_s=4.0), replace(other, sent_s=2.0, end_s=4.0)), engine={"gpus": 1}
    )
    assert most_under_way(pair) == 2
    assert [longer(pair, seats) for seats in (1, 2, inf)] == pytest.approx([1.5, 1.0, 1.0])


def test_a_cap_presses_as_far_as_the_run_drew_more() -> None:
    """Not at all above all that was drawn, and by the logarithm of it below; without power it is not known."""
    run = replace(builders.run(builders.trace(2), 8), readings=None, engine={"gpus": 1})
    drawn = [s.energy_j / (s.end_s - s.start_s) for s in run.steps or () if s.energy_j and not s.idle]
    assert pressed(run, max(drawn)) == pytest.approx(0.0)
    halved, quartered = pressed(run, min(drawn) / 2), pressed(run, min(drawn) / 4)
    assert halved is not None and quartered is not None and quartered - halved == pytest.approx(0.6931, abs=1e-3)
    assert pressed(replace(run, steps=None), 300.0) is None

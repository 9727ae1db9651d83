"""What steps are made of, against the models that made them."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.causes.loads import Shape, trace_of
from benchmarks.causes.planted import run_of

from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.engine import StepEngine
from rejoule.replay.sim.latency import Work
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces.run import Configuration, Run

WORKS = (Work(), Work(decodes=3, decode_context=900), Work(2, 4000, 9e6, 300, 5, 4000, 2), Work(1, 7, 24.5, 0, 0, 0, 1))


def run(**knobs: object) -> Run:
    return run_of(trace_of(Shape(5, 20.0, 600, 100.0), 3), Configuration(**knobs))  # type: ignore[arg-type]


@pytest.mark.parametrize("profile", ["h200-llama-3.1-8b", "h200-qwen3-30b-a3b", "a100-llama-3.1-70b-tp4"])
def test_joules_of_many_steps_are_those_of_each(profile: str) -> None:
    engine = StepEngine(EngineConfig(load_profile(profile)))
    clock = engine.power.clocks_mhz[len(engine.power.clocks_mhz) // 2]
    demands = [engine.latency.demand(work) for work in WORKS]
    each = [engine.power.power_at(d, clock) * engine.latency.time(d, clock).step_s for d in demands]
    assert engine.power.joules(np.array(demands), clock) == pytest.approx(each, rel=1e-12)


def test_shares_are_of_one_whole_and_idle_steps_have_none() -> None:
    for step in run().steps or ():
        assert len(step.makeup) == (1 if step.idle else 6 if step.prefill else 3)
        assert -1e-5 <= sum(step.makeup[1:]) < 1.0


def test_at_the_greatest_clock_nothing_is_owed_to_clocks() -> None:
    assert {step.makeup[0] for step in run(max_num_seqs=1).steps or () if not step.cap_bound} == {1.0}


def test_what_a_lower_clock_saves_is_what_a_run_at_the_greatest_takes_more() -> None:
    free, locked = ([step for step in side.steps or () if not step.idle] for side in (run(), run(sm_clock_mhz=795.0)))
    free_j, locked_j = (sum(step.energy_j or 0.0 for step in side) for side in (free, locked))
    assert locked_j < 0.9 * free_j
    there_j = sum((step.energy_j or 0.0) * step.makeup[0] for step in locked)
    assert there_j == pytest.approx(free_j, rel=0.1)

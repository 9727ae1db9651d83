"""What fits well and is wrong all the same is withheld, or corrected, and said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.analysis.attribution.judged import found, judged

from rejoule.analysis.energy import spent
from rejoule.traces.run import Step


@pytest.mark.parametrize("seed", range(3))
def test_a_constant_foreign_load_is_refused(seed: int) -> None:
    """150 W of another process are seen in the idle power within the run, though NVML names nobody."""
    assert "something else drew power" in (found(judged("foreign 150 W", seed).run).withheld or "")


@pytest.mark.parametrize("seed", [0, 1, 39, 42])
def test_foreign_bursts_are_refused(seed: int) -> None:
    """60 W that come and go are seen in idle power, or in power that wanders."""
    assert "something else drew power" in (found(judged("foreign bursts of 60 W", seed).run).withheld or "")


@pytest.mark.parametrize("load", ["part-time sensor", "clock changes", "drift"])
def test_what_a_card_does_alone_is_not_power_that_came_and_went(load: str) -> None:
    """Sensors that miss most of the time, clocks that change and leakage that drifts pass that test."""
    assert not any("came and went" in (found(judged(load, seed).run).withheld or "") for seed in range(3))


def test_a_load_that_stays_after_the_run_is_refused() -> None:
    """Idle power after the run tells of it."""
    run = judged("mix").run
    assert run.conditions is not None and run.conditions.loaded_w is not None
    busier = replace(run, conditions=replace(run.conditions, after_w=run.conditions.loaded_w + 60.0))
    assert "something else drew power" in (found(busier).withheld or "")


def test_a_gpu_without_work_is_a_line_of_its_own() -> None:
    """Its joules are on no node, and all lines still add up to both GPUs'."""
    one, two = found(judged("part-time sensor").run), judged("second GPU")
    both = found(two.run)
    assert both.withheld is None and both.idle_gpus_j == pytest.approx(112.0 * two.run.makespan_s, rel=1e-3)
    parts = [energy.total_j for energy in both.by_node().values()]
    assert sum(parts) + sum(both.without_work().values()) == pytest.approx(two.run.energy.gpu_j, rel=1e-9)
    assert sum(parts) == pytest.approx(sum(energy.total_j for energy in one.by_node().values()), rel=0.02)
    (shown,) = spent([two.run])
    assert "idle GPUs" in {part.name for part in shown.parts}


def test_gpus_that_were_read_together_are_refused() -> None:
    """Old readings told of all GPUs at once: one of them may have had no work."""
    assert "2 GPUs were read together" in (found(judged("second GPU, told together").run).withheld or "")


def test_contexts_that_were_not_recorded_follow_from_what_was_computed() -> None:
    """Steps without cached tokens say by what was left to compute how long the context was."""
    known, unknown = (found(judged(load).run) for load in ("nearly all cached", "cached tokens not recorded"))
    for name, energy in known.by_node().items():
        assert unknown.by_node()[name].total_j == pytest.approx(energy.total_j, rel=1e-6)


def test_cached_tokens_written_down_as_computed_are_refused() -> None:
    """Steps that compute more than the calls left to compute are not believed."""
    run = judged("nearly all cached").run
    whole = {call.id: call for call in run.calls}

    def swollen(step: Step) -> Step:
        grown = tuple((c, whole[c].prompt_tokens or n, 0) for c, n, _ in step.prefill)
        return replace(step, prefill=grown, prefill_context=())

    steps = tuple(map(swollen, run.steps or ()))
    assert "written down as computed" in (found(replace(run, steps=steps)).withheld or "")


def test_a_late_counter_is_found_and_its_edges_are_in_the_intervals() -> None:
    """A counter that is a second late costs width, not truth."""
    late = judged("late by 1 s")
    whole = found(late.run)
    assert whole.withheld is None
    true = late.lines()
    for name, energy in whole.by_node().items():
        assert abs(energy.total_j - true["nodes", name]) <= (energy.uncertainty_j or 0.0) < 0.15 * energy.total_j


def test_idle_has_no_interval_where_joules_are_withheld() -> None:
    """What speaks against the joules of nodes speaks against idle's."""
    (shown,) = spent([judged("foreign 150 W").run])
    assert shown.withheld and all(part.uncertainty_j is None for part in shown.parts)

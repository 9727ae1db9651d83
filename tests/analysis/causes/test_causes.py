"""Causes of differences that were planted in replays on the simulated engine."""

from __future__ import annotations

from dataclasses import replace
from math import fsum

import pytest
from benchmarks.causes.loads import Shape, trace_of
from benchmarks.causes.planted import KINDS, OPTIONS, PLANTS, planted, run_of
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.analysis.causes import Causes, causes
from rejoule.analysis.causes.result import Piece, unsure_notes
from rejoule.analysis.causes.rules import costly
from rejoule.analysis.pairing import Pair
from rejoule.traces.run import Configuration, Run

BASE = Configuration(max_num_seqs=32, options=OPTIONS)
SHAPE = Shape(workflows=4, apart_ms=30.0, shared=1000, tool_ms=200.0)


def run(seed: int = 0, **knobs: object) -> Run:
    return run_of(trace_of(SHAPE, seed), replace(BASE, **knobs))  # type: ignore[arg-type]


def why(a: Run, b: Run) -> Causes:
    found = causes([Pair(a, b)])
    assert found is not None
    return found


def total(run: Run) -> float:
    assert run.energy.gpu_j is not None
    return run.energy.gpu_j


KNOBS = st.fixed_dictionaries(
    {
        "max_num_seqs": st.sampled_from([1, 3, 32]),
        "sm_clock_mhz": st.sampled_from([None, 795.0, 1485.0]),
        "power_cap_w": st.sampled_from([None, 400.0]),
        "output_scale": st.sampled_from([1.0, 1.7]),
        "input_scale": st.sampled_from([1.0, 0.6]),
        "time_scale": st.sampled_from([1.0, 4.0]),
        "options": st.sampled_from(
            [OPTIONS, {"enable_prefix_caching": False}, {"num_gpu_blocks": 260}, {"enforce_eager": True}]
        ),
    }
)


@settings(max_examples=25, deadline=None)
@given(KNOBS, KNOBS, st.integers(0, 3))
def test_causes_add_up_and_turn_with_the_sides(a: dict[str, object], b: dict[str, object], seed: int) -> None:
    one, other = run(seed, **a), run(seed, **b)
    there, back = why(one, other), why(other, one)
    delta_j = total(other) - total(one)
    scale_j = 1e-9 * max(total(one), total(other))
    assert fsum(c.joules for c in there.causes) == pytest.approx(delta_j, rel=1e-9, abs=1e-12)
    turned = {c.names: c.joules for c in back.causes}
    for cause in there.causes:
        assert turned.get(cause.names, 0.0) == pytest.approx(-cause.joules, rel=1e-9, abs=scale_j)
        assert fsum(cause.by_node.values()) == pytest.approx(cause.joules, rel=1e-9, abs=scale_j)


def test_causes_of_a_node_add_up_to_its_difference() -> None:
    from rejoule.analysis.attribution import attribute

    a, b = run(), run(max_num_seqs=1)
    found, sides = why(a, b), [attribute(side) for side in (a, b)]
    assert sides[0] is not None and sides[1] is not None
    idle_j = sides[1].idle_j - sides[0].idle_j
    said_j = fsum(c.by_node.get(line, 0.0) for c in found.causes for line in ("idle", "tool wait"))
    assert said_j == pytest.approx(idle_j, rel=1e-6)
    nodes_j = fsum(j for c in found.causes for line, j in c.by_node.items() if line not in ("idle", "tool wait"))
    assert nodes_j == pytest.approx(found.delta_j - idle_j, rel=1e-6)


def test_equal_runs_have_no_causes() -> None:
    found = why(run(), run())
    assert found.causes == () and found.delta_j == 0.0


@pytest.mark.parametrize("kind", KINDS[: len(PLANTS)], ids=lambda kind: kind[0])
def test_what_was_planted_is_the_largest_cause(kind: tuple[str, ...]) -> None:
    found = [planted(kind, seed) for seed in range(3)]
    assert any(one.telling for one in found)
    assert all(one.named for one in found if one.telling)


def test_work_done_again_after_preemptions_is_a_cause() -> None:
    crowded = Shape(workflows=8, apart_ms=0.0, shared=400, tool_ms=0.0)
    trace = trace_of(crowded, 1)
    tight = replace(BASE, output_scale=3.0, options={"enable_prefix_caching": False, "num_gpu_blocks": 330})
    wide = replace(tight, options={"enable_prefix_caching": False})
    a, b = run_of(trace, wide), run_of(trace, tight)
    assert any(call.preemptions for call in b.calls)
    cause = why(a, b).of("preemption")
    assert cause is not None and cause.joules > 0.0
    prefill = why(a, b).of("prefill")
    assert prefill is None or abs(prefill.joules) < cause.joules


def test_preemptions_make_neither_prompts_nor_outputs_longer() -> None:
    """Both sides were asked for the same: the token with which a preempted call goes on is none of its prompt."""
    trace = trace_of(Shape(workflows=8, apart_ms=0.0, shared=400, tool_ms=0.0), 1)
    for caching in (True, False):
        wide = replace(BASE, output_scale=3.0, options={"enable_prefix_caching": caching})
        tight = replace(wide, options={**wide.options, "num_gpu_blocks": 330})
        a, b = run_of(trace, wide), run_of(trace, tight)
        assert any(call.preemptions for call in b.calls)
        assert why(a, b).of("outputs") is None and why(a, b).of("prompts") is None


def test_options_that_change_what_a_step_costs_are_named() -> None:
    found = why(run(), run(options={**OPTIONS, "enforce_eager": True}))
    cause = found.causes[0]
    assert cause.names == ("engine",) and cause.reason is not None and "CUDA graphs" in cause.reason


def test_how_runs_were_measured_is_named_as_no_cause() -> None:
    a = run()
    measured = {"idle_s": 0, "step_tap": False}
    b = replace(a, configuration=replace(a.configuration, options={**a.configuration.options, **measured}))
    assert costly([a, b]) == ()


def test_without_steps_it_is_said_that_causes_cannot_be_told() -> None:
    a, b = (replace(side, steps=None) for side in (run(), run(time_scale=9.0)))
    found = why(a, b)
    assert found.basis == "totals" and [len(c.names) for c in found.causes] == [9, 2]
    assert all(cause.reason for cause in found.causes) and not found.causes[0].by_node
    assert fsum(c.joules for c in found.causes) == pytest.approx(found.delta_j, rel=1e-9)


def test_without_steps_and_idle_joules_there_is_one_cause() -> None:
    sides = (replace(s, steps=None, energy=replace(s.energy, idle_j=None)) for s in (run(), run(max_num_seqs=1)))
    (cause,) = why(*sides).causes
    assert len(cause.names) == 11 and cause.reason is not None


def test_runs_of_before_steps_had_a_makeup_are_told_by_fitted_costs() -> None:
    def older(side: Run) -> Run:
        return replace(side, steps=tuple(replace(step, makeup=()) for step in side.steps or ()))

    found = why(older(run()), older(run(max_num_seqs=1)))
    assert found.basis == "fitted costs" and "batching" in found.causes[0].names
    assert fsum(c.joules for c in found.causes) == pytest.approx(found.delta_j, rel=1e-9)


def test_a_line_without_an_interval_says_why() -> None:
    """Whatever causes were told from: the model's own steps, fitted costs, or the lengths of steps alone."""

    def bare(side: Run) -> Run:
        steps = tuple(replace(step, makeup=(), energy_j=None) for step in side.steps or ())
        return replace(side, steps=steps, configuration=replace(side.configuration, engine="vllm"))

    sides = run(), run(max_num_seqs=1)
    for a, b in (sides, (bare(sides[0]), bare(sides[1]))):
        found = why(a, b)
        assert found.basis in ("counterfactual steps", "step times") and len(found.pieces()) > 3
        assert all(piece.half_width_j is None and piece.reason for piece in found.pieces())


def test_a_reason_that_holds_for_every_line_names_none() -> None:
    one, other = (Piece("fuller steps", line, 1.0, None, "no noise") for line in ("plan", "write"))
    assert list(unsure_notes([one, other])) == ["no ±: no noise"]
    assert list(unsure_notes([one, replace(other, half_width_j=0.1, reason=None)])) == ["no ± of plan: no noise"]
    assert list(unsure_notes([one, replace(other, reason="beside it")])) == [
        "no ± of plan: no noise",
        "no ± of write: beside it",
    ]


def test_a_side_without_joules_has_no_causes() -> None:
    known = run()
    assert causes([Pair(known, replace(known, energy=replace(known.energy, gpu_j=None)))]) is None


def test_the_sentence_names_the_largest_cause_first() -> None:
    sentence = why(run(), run(max_num_seqs=1)).sentence()
    assert sentence.startswith("+") and ": mostly emptier steps (+" in sentence

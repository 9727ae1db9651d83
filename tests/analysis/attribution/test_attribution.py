from __future__ import annotations

from dataclasses import replace
from math import fsum, isclose
from statistics import median

import numpy as np
import pytest
from benchmarks.made_runs import Kind, Sensor, made_run
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.analysis import builders

from rejoule.analysis.attribution import Attribution, Costs, attribute, fit, predicted
from rejoule.analysis.attribution.costs import _factor
from rejoule.analysis.attribution.result import PhaseEnergy, total
from rejoule.analysis.attribution.slices import slices_of
from rejoule.traces.run import CallResult, Certificate, Configuration, Energy, PowerCap, Reading, Run, Step, ToolResult

CALLS = ("a", "b", "c", "d")
SECONDS = st.floats(0.0, 50.0)
JOULES = st.floats(0.0, 1e6)


@st.composite
def readings(draw: st.DrawFn) -> tuple[Reading, ...]:
    """Any contiguous readings, whatever the steps do meanwhile."""
    found, now = [], 0.0
    for _ in range(draw(st.integers(1, 12))):
        end = now + draw(st.floats(0.001, 5.0))
        found.append(Reading(now, end, draw(JOULES)))
        now = end
    return tuple(found)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Any run: steps or none, energy by step or not, totals that agree with the steps or not."""
    calls = []
    for name in CALLS[: draw(st.integers(0, 4))]:
        sent, first, end = sorted(draw(st.tuples(SECONDS, SECONDS, SECONDS)))
        tokens = st.none() | st.integers(0, 5000)
        streamed = first if draw(st.booleans()) else None
        node = draw(st.sampled_from("xy"))
        counts = (draw(tokens), draw(tokens), draw(tokens))
        calls.append(CallResult(name, f"w-{name}", node, sent, sent, end, streamed, *counts))
    steps: list[Step] | None = None
    if draw(st.booleans()):
        steps, now = [], 0.0
        for _ in range(draw(st.integers(0, 12))):
            end = now + draw(st.floats(0.0, 5.0))
            names = st.lists(st.sampled_from(CALLS), unique=True, max_size=3)
            prefill = tuple((n, draw(st.integers(0, 4000)), 0) for n in draw(names))
            decode = tuple((n, draw(st.integers(0, 50))) for n in draw(names))
            count = draw(st.integers(1, 50)) if prefill or decode else 0
            steps.append(Step(now, end, count, draw(st.none() | JOULES), None, None, prefill, decode))
            now = end
    known = fsum(s.energy_j or 0.0 for s in steps or ())
    total = draw(st.sampled_from([known, 0.5 * known, 2.0 * known]) | JOULES)
    idle = draw(st.none() | st.floats(0.0, 1.0).map(lambda share: share * total))
    return Run(
        "r",
        "t",
        "d",
        Configuration(),
        0,
        max([50.0, *(s.end_s for s in steps or ())]),
        tuple(calls),
        (),
        (),
        Energy(total, idle_j=idle, source={"gpu": "model:x"}),
        PowerCap(),
        Certificate("tokens", "d", 0),
        None if steps is None else tuple(steps),
        draw(st.none() | readings()),
    )


def found(run: Run) -> Attribution:
    attributed = attribute(run)
    assert attributed is not None
    return attributed


@settings(deadline=None)
@given(runs())
def test_parts_add_up(run: Run) -> None:
    """Calls, nodes, workflows and phases each add up, with idle and the rest, to the total within 1e-9."""
    whole = found(run)
    rest = (whole.idle_j, whole.unattributed_j)
    for parts in (
        [call.energy.total_j for call in whole.calls],
        [node.total_j for node in whole.by_node().values()],
        [workflow.total_j for workflow in whole.by_workflow().values()],
        [whole.by_phase().prefill_j, whole.by_phase().decode_j],
    ):
        assert isclose(fsum((*parts, *rest)), whole.gpu_j, rel_tol=1e-9, abs_tol=1e-300)
    assert all(call.energy.prefill_j >= -1e-9 * whole.gpu_j for call in whole.calls)
    assert all(call.energy.decode_j >= -1e-9 * whole.gpu_j for call in whole.calls)
    assert whole.unattributed_j >= -1e-9 * whole.gpu_j


@settings(deadline=None)
@given(runs(), st.randoms(use_true_random=False))
def test_order_of_calls_does_not_matter(run: Run, random: object) -> None:
    """Every call gets the same joules, to the last bit, wherever it is listed."""
    shuffled = list(run.calls)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first = {call.call: call for call in found(run).calls}
    assert {call.call: call for call in found(replace(run, calls=tuple(shuffled))).calls} == first


def test_costs_that_are_nearly_one_are_fitted_all_the_same() -> None:
    """Correlations that rounding made impossible end in no error; possible ones are left as they are."""
    beyond = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    factor = _factor(beyond)
    assert np.isfinite(np.linalg.inv(factor)).all()
    possible = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert (_factor(possible) == np.linalg.cholesky(possible)).all()


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_idle_is_the_idle_steps(batch: int) -> None:
    """The joules of steps without work are idle, and no call pays for them."""
    run = builders.run(builders.trace(6), batch)
    assert run.steps is not None
    assert isclose(found(run).idle_j, fsum(s.energy_j or 0.0 for s in run.steps if s.idle), rel_tol=1e-12)


def test_recovers_a_known_engine() -> None:
    """On an engine whose steps cost a + c·tokens, the coefficients and every call's joules come out exactly."""
    truth = builders.Truth(step_j=7.0, decode_token_j=0.25, prefill_token_j=0.02)
    run = builders.run(builders.trace(8), 4, truth=truth)
    whole = found(run)
    assert whole.costs.step_j == pytest.approx(7.0)
    assert whole.costs.decode_token_j == pytest.approx(0.25)
    assert whole.costs.prefill_token_j == pytest.approx(0.02)
    assert whole.costs.misfit < 1e-9
    expected = dict.fromkeys((c.id for c in run.calls), 0.0)
    for step in run.steps or ():
        members = {c for c, *_ in step.prefill} | {c for c, _ in step.decode}
        for call in members:
            expected[call] += truth.step_j / len(members)
        for call, tokens, _ in step.prefill:
            expected[call] += truth.prefill_token_j * tokens
        for call, tokens in step.decode:
            expected[call] += truth.decode_token_j * tokens
    assert {c.call: c.energy.total_j for c in whole.calls} == pytest.approx(expected)


def test_cached_tokens_are_not_charged() -> None:
    """Of two equal prompts in one batch, the one found in the prefix cache pays only its share of the step."""
    calls = tuple(CallResult(c, "w", c, 0.0, 0.0, 2.0, 1.0, 1000, 0, 1) for c in "ab")
    steps = (
        Step(0.0, 1.0, 1, 100.0, prefill=(("a", 1000, 0), ("b", 0, 1000))),
        Step(1.0, 2.0, 1, 10.0, decode=(("a", 1), ("b", 1))),
        Step(2.0, 3.0, 1, 10.0, decode=(("a", 1),)),
    )
    whole = found(replace(_bare(calls, 120.0), steps=steps))
    assert whole.by_node()["b"].prefill_j == pytest.approx(5.0)
    assert whole.by_node()["a"].prefill_j == pytest.approx(95.0)


def test_client_times_alone() -> None:
    """Without steps, time with no call in flight is idle, and joules go by time and tokens."""
    calls = (
        CallResult("a", "w", "x", 1.0, 1.0, 3.0, 1.5, 100, 0, 20),
        CallResult("b", "w", "y", 5.0, 5.0, 7.0, 5.5, 100, 0, 20),
    )
    whole = found(_bare(calls, 1000.0))
    assert whole.idle_j == pytest.approx(600.0)
    assert whole.by_node()["x"].total_j == pytest.approx(200.0)
    assert whole.by_node()["x"].prefill_j == pytest.approx(50.0)
    assert whole.by_node() == {"x": pytest.approx(whole.by_node()["x"]), "y": pytest.approx(whole.by_node()["y"])}
    assert found(replace(_bare(calls, 1000.0), energy=Energy(1000.0, idle_j=100.0))).idle_j == pytest.approx(100.0)
    idle = found(replace(_bare(calls, 1000.0), energy=Energy(1000.0, idle_j=1500.0)))
    assert (idle.idle_j, idle.by_phase().total_j, idle.unattributed_j) == pytest.approx((1000.0, 0.0, 0.0))


def test_client_times_cover_the_run() -> None:
    """The stretches cut from client times follow each other without gap, from start to makespan."""
    run = replace(builders.run(builders.trace(3)), steps=None)
    assert fsum(s.duration_s for s in slices_of(run)) == pytest.approx(run.makespan_s)
    prompt = fsum(fsum(w.tokens for w in s.prefill.values()) for s in slices_of(run))
    assert prompt == pytest.approx(sum((c.prompt_tokens or 0) - (c.cached_tokens or 0) for c in run.calls))


def test_energy_outside_the_steps_is_unattributed() -> None:
    """What the meter saw and no step accounts for is a line of its own."""
    run = builders.run(builders.trace(2))
    assert run.energy.gpu_j is not None
    assert found(replace(run, energy=Energy(run.energy.gpu_j + 50.0))).unattributed_j == pytest.approx(50.0)
    assert found(run).unattributed_j == 0.0


def test_nothing_measured() -> None:
    """A run without a meter has no attribution, rather than one of zeros."""
    run = builders.run(builders.trace(2))
    assert attribute(replace(run, energy=Energy())) is None


KINDS = (Kind("chat", 300, 200, 0.5), Kind("summary", 4000, 60), Kind("agent", 8000, 150, 0.9))


@pytest.mark.parametrize("rate", [1.5, 6.0])
def test_intervals_hold_the_truth(rate: float) -> None:
    """From a counter that ticks late every 100 ms, calls come out within a few per cent, and inside their intervals."""
    run, truth = made_run(KINDS, rate, 150, seed=3)
    whole = found(run)
    assert whole.method == "step readings" and whole.withheld is None
    errors = [abs(call.energy.total_j / truth[call.call] - 1.0) for call in whole.calls]
    held = [abs(c.energy.total_j - truth[c.call]) <= (c.energy.uncertainty_j or 0.0) for c in whole.calls]
    assert median(errors) < 0.02
    assert sum(held) >= 0.9 * len(held)
    for node, energy in whole.by_node().items():
        true = fsum(truth[call.call] for call in whole.calls if call.node == node)
        assert abs(energy.total_j - true) <= (energy.uncertainty_j or 0.0) < 0.1 * true


def test_a_late_counter_costs_no_accuracy() -> None:
    """How late the counter tells is found from the run."""
    run, truth = made_run(KINDS, 1.5, 60, seed=4, sensor=Sensor(lag_s=0.16))
    whole = found(run)
    assert whole.costs.misfit < 0.02
    assert median(abs(call.energy.total_j / truth[call.call] - 1.0) for call in whole.calls) < 0.02


def test_trials_share_a_fit() -> None:
    """Costs of several trials together describe each of them, and predict a run that was not among them."""
    trials = [made_run(KINDS, 4.0, 60, seed=seed)[0] for seed in range(3)]
    costs = fit(trials)
    other, truth = made_run(KINDS, 4.0, 60, seed=9)
    assert fsum(predicted(other, costs).values()) == pytest.approx(fsum(truth.values()), rel=0.03)
    assert abs(found_by(other, costs).scale - 1.0) < 0.03


def test_costs_of_another_engine_are_refused() -> None:
    """Costs that miss the measured energy by more than a tenth are not used to split it."""
    run, _ = made_run(KINDS, 4.0, 60)
    costs = fit([run])
    assert found_by(run, costs).withheld is None
    other = replace(costs, step_j=2.0 * costs.step_j, decode_token_j=2.0 * costs.decode_token_j)
    assert "measured 0." in (found_by(run, other).withheld or "")


def test_client_times_with_readings() -> None:
    """Without steps, the counter's readings still tell busy from idle, and no interval is claimed."""
    run, truth = made_run(KINDS, 1.0, 40, seed=5)
    whole = found(replace(run, steps=None))
    assert whole.method == "client readings"
    assert whole.idle_j + fsum(c.energy.total_j for c in whole.calls) == pytest.approx(whole.gpu_j)
    assert fsum(c.energy.total_j for c in whole.calls) == pytest.approx(fsum(truth.values()), rel=0.05)
    assert all(c.energy.uncertainty_j is None for c in whole.calls)


def test_longer_contexts_cost_more() -> None:
    """Of two calls that decode side by side, the one with the longer context owes more, by what attention costs."""
    run, truth = made_run((Kind("short", 200, 100), Kind("long", 8000, 100, 0.95)), 5.0, 80, seed=2)
    nodes = found(run).by_node()
    for name in nodes:
        true = fsum(truth[c.id] for c in run.calls if c.node == name)
        assert nodes[name].total_j == pytest.approx(true, rel=0.03)
    unknown = tuple(replace(s, prefill_context=(), decode_context=()) for s in run.steps or ())
    assert found(replace(run, steps=unknown)).by_node()["long"].total_j == pytest.approx(
        nodes["long"].total_j, rel=0.02
    )


def test_the_window_widens_every_interval() -> None:
    """An uncertain total makes every part uncertain by its share."""
    run = builders.run(builders.trace(4))
    wide = replace(run, energy=replace(run.energy, uncertainty_j={"gpu": 0.1 * (run.energy.gpu_j or 0.0)}))
    for energy in found(wide).by_node().values():
        assert energy.uncertainty_j is not None
        assert energy.uncertainty_j >= 0.1 * energy.total_j


def test_waiting_for_tools_is_told_from_idle() -> None:
    """Idle joules of the time in which a tool ran are called so, overlapping tools counted once."""
    run = replace(builders.run(builders.trace(2)), tools=())
    idle = [s for s in run.steps or () if s.idle][-1]
    half = (idle.start_s + idle.end_s) / 2.0
    within = [idle.start_s + share * (half - idle.start_s) for share in (0.25, 0.75)]
    tools = (ToolResult("a", "w", "n", "t", idle.start_s, half), ToolResult("b", "w", "n", "t", *within))
    assert found(run).tool_wait_j == 0.0
    assert found(replace(run, tools=tools)).tool_wait_j == pytest.approx((idle.energy_j or 0.0) / 2.0)
    throughout = (ToolResult("a", "w", "n", "t", 0.0, run.makespan_s),)
    assert found(replace(run, tools=throughout)).tool_wait_j == pytest.approx(found(run).idle_j)


def test_what_is_computed_again_has_its_share_of_the_prompts_joules() -> None:
    """Of 100 tokens of which 60 had been computed before the call was preempted, 6 tenths."""
    calls = tuple(CallResult(c, "w", c, 0.0, 0.0, 4.0, 3.0, 100, 0, 2) for c in "ab")
    steps = (
        Step(0.0, 1.0, 1, 90.0, prefill=(("a", 60, 0), ("b", 100, 0)), prefill_context=(0, 0)),
        Step(1.0, 2.0, 1, 10.0, decode=(("b", 1),), preempted=("a",)),
        Step(2.0, 3.0, 1, 50.0, prefill=(("a", 100, 0),), prefill_context=(0,)),
        Step(3.0, 4.0, 1, 10.0, decode=(("a", 1),)),
    )
    a, b = (found(replace(_bare(calls, 160.0), steps=steps)).by_node()[name] for name in "ab")
    assert (a.again_j, b.again_j) == pytest.approx((30.0, 0.0))


def test_a_sum_with_a_part_that_is_not_known_is_not_known() -> None:
    """Joules of tokens computed again, where one of the calls has none."""
    known = PhaseEnergy(2.0, 1.0, again_j=0.5)
    assert total([known, known]).again_j == 1.0
    assert total([known, replace(known, again_j=None)]).again_j is None


def found_by(run: Run, costs: Costs) -> Attribution:
    attributed = attribute(run, costs)
    assert attributed is not None
    return attributed


def _bare(calls: tuple[CallResult, ...], gpu_j: float) -> Run:
    return Run(
        "r", "t", "d", Configuration(), 0, 10.0, calls, (), (), Energy(gpu_j), PowerCap(), Certificate("none", "", 0)
    )

"""When outputs are out while host and GPU work at the same time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.sim.latency import Demand, LatencyModel
from rejoule.replay.sim.pipeline import Pipeline, span_s, workers_span_s
from rejoule.replay.sim.power import PowerModel
from rejoule.replay.sim.records import StepRecord
from rejoule.replay.sim.shipped import load_profile

H200 = load_profile("h200-data-sheet-llama-3.1-8b")

times = st.tuples(st.floats(1e-4, 0.5), st.floats(1e-4, 0.1))


def test_decode_steps_take_what_the_slower_of_host_and_gpu_needs() -> None:
    assert span_s([(0.005, 0.002)] * 10, None, 0.002) == pytest.approx(0.050)
    assert span_s([(0.005, 0.008)] * 10, None, 0.008) == pytest.approx(0.080)


def test_launching_a_prompt_hides_behind_the_step_before_it() -> None:
    """A decode step of 5 ms and a prompt of 11 ms that takes the host 9 ms last 16 ms; if it takes 20 ms, 22."""
    assert span_s([(0.005, 0.002), (0.011, 0.009)], None, 0.002) == pytest.approx(0.016)
    assert span_s([(0.005, 0.002), (0.011, 0.020)], None, 0.002) == pytest.approx(0.022)


def test_nothing_hides_the_launch_of_a_step_after_a_pause() -> None:
    """With 12 ms of launching, a prompt of 10 ms and then one more are out after both were launched."""
    assert span_s([(0.010, 0.012)], 0.001, 0.0) == pytest.approx(0.013)
    assert span_s([(0.010, 0.012), (0.010, 0.012)], 0.001, 0.002) == pytest.approx(0.027)


def test_the_last_kernels_come_after_the_launch() -> None:
    assert span_s([(0.005, 0.002), (0.001, 0.020)], None, 0.0, 0.0015) == pytest.approx(0.0215)


@given(st.lists(times, min_size=1, max_size=8), st.none() | st.floats(0, 0.01))
def test_neither_host_nor_gpu_is_faster_than_its_own_work(
    steps: list[tuple[float, float]], first: float | None
) -> None:
    total = span_s(steps, first, 0.001)
    launched = [h for _, h in (steps if first is not None else steps[1:])]
    assert total >= sum(g for g, _ in steps) - 1e-9
    assert total >= sum(launched) - 1e-9
    assert total <= (first or 0) + sum(g + h for g, h in steps) + 0.001 + 1e-9


@given(st.lists(times, min_size=1, max_size=8), st.floats(0, 0.01))
def test_launching_and_landing_takes_as_long_as_the_formula_says(
    steps: list[tuple[float, float]], first_s: float
) -> None:
    """Steps launched one after another while the one before is in flight are out when ``span_s`` has them out."""
    pipeline = Pipeline(PowerModel(H200, LatencyModel(H200, 1), None, None), ahead=True)
    for number, (gpu_s, host_s) in enumerate(steps):
        launch = pipeline.launch(Demand(gpu_s, 0.0, 0.0, host_s, first_s=0.0 if number else first_s))
        end_s = max(launch.begins_s + gpu_s, launch.launched_s)
        pipeline.fly(StepRecord(launch.start_s, end_s, 1, 0.0, 1980.0, False, True, gpu_s, 0.0), (), launch.begins_s)
    landed = pipeline.land()
    assert landed.record.end_s == pipeline.now_s == pytest.approx(span_s(steps, first_s, 0.0))


def test_workers_launch_a_prompt_while_the_step_before_it_is_out_already() -> None:
    """Of a decode step of 5 ms and a prompt that takes 20 ms to launch, the prompt alone is late; a decode step behind
    it, one CUDA graph, is launched in 3 ms and begins only then."""
    decode, prompt = (0.005, 0.003, True), (0.011, 0.020, False)
    assert workers_span_s([decode] * 10, None) == pytest.approx(0.050)
    assert workers_span_s([(0.005, 0.008, True)] * 10, None) == pytest.approx(0.080)
    assert workers_span_s([decode], None) == pytest.approx(0.005)
    assert workers_span_s([decode, prompt], None, 0.0015) == pytest.approx(0.0215)
    assert workers_span_s([decode, prompt, decode], None, 0.0015) == pytest.approx(0.028)
    assert workers_span_s([prompt, decode], 0.001, 0.0015) == pytest.approx(0.029)


@given(st.lists(st.tuples(times, st.booleans()), min_size=1, max_size=8), st.floats(0, 0.01))
def test_workers_take_as_long_as_the_formula_says(
    steps: list[tuple[tuple[float, float], bool]], first_s: float
) -> None:
    pipeline = Pipeline(PowerModel(H200, LatencyModel(H200, 1), None, None), ahead=True, workers=True)
    for number, ((gpu_s, host_s), whole) in enumerate(steps):
        demand = Demand(gpu_s, 0.0, 0.0, host_s, first_s=0.0 if number else first_s)
        launch = pipeline.launch(demand, whole)
        end_s = max(launch.begins_s + gpu_s, launch.launched_s)
        pipeline.fly(StepRecord(launch.start_s, end_s, 1, 0.0, 1980.0, False, True, gpu_s, 0.0), (), launch.begins_s)
    handed = [(gpu_s, host_s, whole) for (gpu_s, host_s), whole in steps]
    assert pipeline.land().record.end_s == pytest.approx(workers_span_s(handed, first_s))


def test_the_gpu_draws_its_resting_power_all_the_time() -> None:
    """What a step's record lacks is the energy of rest in its own time."""
    power = PowerModel(H200, LatencyModel(H200, 1), None, None)
    pipeline = Pipeline(power, ahead=True)
    gap = pipeline.rest(2.0)
    assert (gap.idle, gap.start_s, gap.end_s, gap.energy_j) == (True, 0.0, 2.0, 2.0 * power.idle_w)
    launch = pipeline.launch(Demand(0.01, 0.0, 0.0, 0.001, first_s=0.5))
    assert (launch.start_s, launch.begins_s, launch.landed) == (2.0, 2.5, None)
    pipeline.fly(StepRecord(launch.start_s, 2.51, 1, 3.0, 1980.0, False, True, 0.01, 0.0), (), launch.begins_s)
    assert pipeline.land(2.52).record.energy_j == pytest.approx(3.0 + 0.52 * power.idle_w)


def test_the_cap_knows_of_rest_between_steps() -> None:
    """Where the next step begins later than the one in flight is computed, the mean power falls meanwhile."""
    power = PowerModel(H200, LatencyModel(H200, 1), None, None)
    window_s, idle_w = H200.power.cap_window_s, power.idle_w
    pipeline = Pipeline(power, ahead=True)
    launch = pipeline.launch(Demand(0.1, 0.0, 0.0, 0.001))
    power.hold(650.0, launch.begins_s)
    pipeline.fly(StepRecord(launch.start_s, 0.1, 1, 0.0, 1980.0, False, True, 0.1, 0.0), (), launch.begins_s)
    begins_s = pipeline.launch(Demand(0.1, 0.0, 0.0, 0.001, first_s=0.3)).begins_s
    assert begins_s == pytest.approx(0.301)
    busy_w = 650.0 - (650.0 - idle_w) * math.exp(-0.1 / window_s)
    assert power._mean(begins_s) == pytest.approx(idle_w + (busy_w - idle_w) * math.exp(-0.201 / window_s))


def test_joules_lie_where_the_time_is() -> None:
    """A step of 10 ms that began 4 ms before its record starts took 4 tenths of its joules in the record before."""
    pipeline = Pipeline(PowerModel(H200, LatencyModel(H200, 1), None, None), ahead=True)
    record = StepRecord(1.004, 1.010, 1, 5.0, 1980.0, False, True, 0.01, 0.0)
    assert pipeline.fly(record, (), 1.0) == pytest.approx(2.0)
    assert pipeline.land().record.energy_j == pytest.approx(3.0 + 0.006 * pipeline.power.idle_w)

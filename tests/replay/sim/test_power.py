"""The latency and power models: their shape, and what caps and clock locks do."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.sim.latency import Demand, LatencyModel, Work
from rejoule.replay.sim.margins import near_cap
from rejoule.replay.sim.power import PowerModel, voltage
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.records import StepRecord
from rejoule.replay.sim.shipped import load_profile

H200 = load_profile("h200-data-sheet-llama-3.1-8b")
A100 = load_profile("a100-llama-3.1-8b")
LLAMA_70B = load_profile("a100-llama-3.1-70b-tp4")
PREFILL = Work(prefills=1, prefill_tokens=8192, prefill_pairs=8192 * 4096, prompts_completed=1)


def decode(batch: int, context: int = 1000) -> Work:
    return Work(decodes=batch, decode_context=batch * context)


def power(profile: Profile, cap_w: float | None = None, clock_mhz: int | None = None) -> PowerModel:
    return PowerModel(profile, LatencyModel(profile), cap_w, clock_mhz)


works = st.one_of(
    st.builds(decode, st.integers(1, 512), st.integers(1, 20_000)),
    st.builds(lambda n: Work(1, n, n * n / 2, 0, 0, 0, 1), st.integers(1, 16_384)),
)


@settings(deadline=None)
@given(works, st.sampled_from([H200, A100]))
def test_a_lower_cap_never_makes_a_step_faster_or_draws_more(work: Work, profile: Profile) -> None:
    """Over falling caps the clock falls, time rises, power falls, and no attained cap is exceeded."""
    demand = LatencyModel(profile).demand(work)
    gpu = profile.gpu
    last = power(profile).operate(demand)
    for cap_w in range(int(gpu.max_power_limit_w), int(gpu.min_power_limit_w) - 1, -20):
        now = power(profile, cap_w).operate(demand)
        assert now.clock_mhz <= last.clock_mhz
        assert now.step_s >= last.step_s
        assert now.power_w <= last.power_w
        assert now.attainable == (now.power_w <= cap_w)
        assert now.cap_bound == (power(profile, gpu.max_power_limit_w).operate(demand).power_w > cap_w) or (
            cap_w == gpu.max_power_limit_w
        )
        last = now


@settings(deadline=None)
@given(works)
def test_a_cap_that_does_not_bind_changes_nothing(work: Work) -> None:
    """Above a step's own power the cap is without any effect."""
    demand = LatencyModel(H200).demand(work)
    free = power(H200, 700).operate(demand)
    if free.power_w < 690 and not free.cap_bound:
        assert power(H200, max(200.0, free.power_w + 1)).operate(demand) == free


@pytest.mark.parametrize(
    ("work", "low_w", "high_w"),
    [
        (decode(1), 505, 525),
        (decode(4), 505, 540),
        (decode(32, 600), 595, 635),
        (PREFILL, 670, 700),
        (decode(512, 600), 600, 700),
    ],
)
def test_the_h200_draws_what_was_read_on_one(work: Work, low_w: float, high_w: float) -> None:
    """One sequence draws 515 W, 32 draw 615 W, prefill and large batches nearly the whole limit."""
    operation = power(H200).operate(LatencyModel(H200).demand(work))
    assert low_w <= operation.power_w <= high_w


def test_prefill_lowers_the_clock_of_the_h200_under_its_default_cap() -> None:
    """At 700 W a prefill step runs below 1600 MHz; a lone decode keeps the full clock."""
    model = power(H200)
    latency = LatencyModel(H200)
    assert model.operate(latency.demand(PREFILL)).clock_mhz < 1600
    assert model.operate(latency.demand(decode(1))).clock_mhz == 1980


def test_energy_per_prefill_has_its_minimum_between_the_extremes_of_the_cap() -> None:
    """Energy over the cap is U-shaped: running slower saves at first and costs at the end."""
    demand = LatencyModel(A100).demand(PREFILL)
    energies = []
    for cap_w in range(400, 99, -20):
        operation = power(A100, cap_w).operate(demand)
        energies.append(operation.power_w * operation.step_s)
    assert 0 < energies.index(min(energies)) < len(energies) - 1


def test_an_unattainable_cap_runs_at_the_lowest_clock_and_says_so() -> None:
    """A cap below the power at the lowest clock is not kept, and not claimed to be."""
    hungry = msgspec.structs.replace(A100, power=msgspec.structs.replace(A100.power, idle_w=110))
    demand = LatencyModel(hungry).demand(decode(256, 2000))
    for operation in (power(hungry, 100).operate(demand), power(hungry, 100).run(demand, 0.0)):
        assert (operation.cap_bound, operation.attainable) == (True, False)
    assert power(hungry, 100).operate(demand).clock_mhz == 210


def test_a_clock_lock_slows_prefill_and_hardly_decode() -> None:
    """At two thirds of the clock, prefill loses about a third of its speed and a lone decode almost none."""
    latency = LatencyModel(A100)
    for work, least, most in ((PREFILL, 1.4, 1.51), (decode(1), 1.0, 1.01)):
        demand = latency.demand(work)
        ratio = power(A100, None, 945).operate(demand).step_s / power(A100).operate(demand).step_s
        assert least <= ratio <= most


@pytest.mark.parametrize("share", [0.2, 0.55, 0.8, 0.93, 1.0])
def test_voltage_falls_below_the_knee_down_to_the_floor(share: float) -> None:
    """One at the knee, a slope above, a sag below, and no less than at the floor."""
    curve = H200.power
    risen = {0.2: 1 - 0.55 * 0.38, 0.55: 1 - 0.55 * 0.38, 0.8: 1 - 0.55 * 0.13, 0.93: 1.0, 1.0: 1 + 0.5 * 0.07}
    assert float(voltage(curve, share)) == pytest.approx(risen[share])
    assert (curve.knee, curve.voltage_slope, curve.voltage_sag, curve.floor) == (0.93, 0.5, 0.55, 0.55)


def test_prefill_under_half_the_limit_takes_no_more_joules_than_under_all_of_it() -> None:
    """As voltage falls with the clock; at the least cap it takes more, since it rests for longer."""
    demand = LatencyModel(H200).demand(PREFILL)
    joules = {cap: (o := power(H200, cap).operate(demand)).power_w * o.step_s for cap in (700, 350, 200)}
    assert joules[350] < joules[700] < joules[200]


@pytest.mark.parametrize(("cap_w", "near"), [(500, 1.0), (400, 1.0), (600, 0.0), (300, 0.0)])
def test_whether_a_cap_near_what_a_step_draws_binds_is_the_cards(cap_w: float, near: float) -> None:
    """A lone decode draws 441 W in the profile, and up to 16 % more on other cards: a cap of 500 W may bind there."""
    profile = load_profile("h200-llama-3.1-8b")
    record = StepRecord(0, 1, 200, 441, 1980, False, True, 0.005, 0, decode_ids=("a",), context_tokens=1000)
    idle = record._replace(idle=True, decode_ids=())
    assert near_cap([record, idle], LatencyModel(profile), power(profile, cap_w), 0.161) == near
    assert near_cap([idle], LatencyModel(profile), power(profile, cap_w), 0.161) is None


def test_a_lone_decode_of_an_8b_model_takes_as_long_as_reading_its_weights() -> None:
    """15 GB at 70 % of 4.8 TB/s are 4.5 ms; overheads add less than a millisecond."""
    operation = power(H200).operate(LatencyModel(H200).demand(decode(1)))
    assert 0.0049 < operation.step_s < 0.0052


def test_a_cap_costs_a_decode_of_a_65b_class_model_about_what_was_published() -> None:
    """From 250 to 175 W, LLaMA 65B on A100s took 6 to 7 % longer and 23 % less energy (Samsi et al., 2310.03003).

    The curve is that of two kernels on an A100, not of this: the model is 7 points off in both.
    """
    demand = LatencyModel(LLAMA_70B).demand(decode(16, 600))
    wide, narrow = (power(LLAMA_70B, cap_w).operate(demand) for cap_w in (250, 175))
    assert narrow.step_s / wide.step_s - 1 == pytest.approx(0.065, abs=0.07)
    assert narrow.step_s * narrow.power_w / (wide.step_s * wide.power_w) - 1 == pytest.approx(-0.23, abs=0.07)


def test_prefill_suffers_from_a_cap_before_decode_does() -> None:
    """At 71 % of its limit an RTX 4090 loses less than 3 % of its decode speed, and over 5 % of its prefill's.

    Published for an RTX 3090 at 250 of 350 W: 2.6 and 14.7 % (llama.cpp, llmgarage.ai).
    """
    profile = load_profile("rtx-4090-llama-3.1-8b")
    latency = LatencyModel(profile)
    lost = [
        1
        - power(profile, 450).operate(latency.demand(work)).step_s
        / power(profile, 320).operate(latency.demand(work)).step_s
        for work in (decode(1), PREFILL)
    ]
    assert lost[0] < 0.03
    assert lost[1] > 0.05


def test_power_of_tensor_parallel_gpus_is_of_all_and_caps_are_of_each() -> None:
    """Four GPUs draw four times what one may; a cap of 250 W lets them have 1000 W."""
    model = power(LLAMA_70B, 250)
    demand = LatencyModel(LLAMA_70B).demand(decode(64))
    free = power(LLAMA_70B).operate(demand)
    assert free.power_w > 400 and not free.cap_bound
    operation = model.operate(demand)
    assert operation.cap_bound
    assert 970 < operation.power_w <= 1000
    assert model.power_at(demand, operation.clock_mhz) == pytest.approx(operation.power_w)
    assert model.idle_w == pytest.approx(4 * power(A100).idle_w)


def test_a_gpu_that_waits_for_another_draws_more_than_one_that_rests() -> None:
    """All-reduces draw ``link_w`` for their share of a step, with the clock as compute does."""
    waiting = msgspec.structs.replace(LLAMA_70B, power=msgspec.structs.replace(LLAMA_70B.power, link_w=50))
    still = msgspec.structs.replace(LLAMA_70B, power=msgspec.structs.replace(LLAMA_70B.power, link_w=0))
    demand = LatencyModel(LLAMA_70B).demand(decode(64))
    share = demand.link_s / LatencyModel(LLAMA_70B).time(demand, 1005).step_s
    more_w = power(waiting).power_at(demand, 1005) - power(still).power_at(demand, 1005)
    scale = power(waiting).power_at(Demand(0, 0, 1, 0, link_s=1), 1005) - power(still).power_at(
        Demand(0, 0, 1, 0), 1005
    )
    assert 0 < more_w == pytest.approx(share * scale)
    assert scale < 4 * 50


def test_a_burst_runs_above_the_cap_until_the_mean_reaches_it() -> None:
    """After rest an H200 prefills at its full clock for about its window, then at the clock that 700 W allow."""
    model, latency = power(H200), LatencyModel(H200)
    demand = latency.demand(Work(1, 512, 512 * 256, 0, 0, 0, 1))
    at_s, steps = 0.0, []
    while at_s < 0.5:
        steps.append(model.run(demand, at_s))
        at_s += steps[-1].step_s
    free = [step for step in steps if not step.cap_bound]
    bound = [step for step in steps if step.cap_bound]
    assert steps == free + bound
    assert all(step.power_w > 700 and step.clock_mhz == 1980 for step in free)
    assert 0.02 < sum(step.step_s for step in free) < 0.15
    assert bound[-1].power_w <= 700
    assert bound[-1].clock_mhz < 1600


@pytest.mark.parametrize(("share", "bursts"), [(0.8, True), (1.0, False)])
def test_the_controller_judges_the_mean_of_one_gpu(share: float, bursts: bool) -> None:
    """Two that together draw 1.6 times what one may have room for a burst; at twice of it they have none."""
    profile = load_profile("h200-llama-3.1-8b-tp2")
    model, demand = power(profile), LatencyModel(profile).demand(PREFILL)
    model.hold(2 * share * model.cap_w, 0.0)
    assert model.settling(demand, 10.0) == bursts
    assert (model.run(demand, 10.0).power_w > 2 * model.cap_w) == bursts


def test_a_step_on_whose_way_the_mean_reaches_the_cap_does_all_of_its_work() -> None:
    """Its time is of two parts, at a burst's clock and at the cap's; work and joules are of both, the mean is kept."""
    model, demand = power(H200), LatencyModel(H200).demand(PREFILL)
    model.hold(0.9 * model.cap_w, 0.0)
    step, free, steady = model.run(demand, 10.0), model.burst(demand), model.operate(demand)
    share = (step.clock_mhz - steady.clock_mhz) / (free.clock_mhz - steady.clock_mhz)
    assert 0.0 < share < 1.0
    assert step.step_s * (share / free.step_s + (1 - share) / steady.step_s) == pytest.approx(1.0)
    assert step.power_w == pytest.approx(share * free.power_w + (1 - share) * steady.power_w)
    since = math.exp(-(1 - share) * step.step_s / H200.power.cap_window_s)
    mean_w = steady.power_w + (model.cap_w - steady.power_w) * since
    assert model._mean(10.0 + step.step_s) == pytest.approx(mean_w, rel=1e-9)


def test_a_burst_draws_no_more_than_the_peak() -> None:
    """With a peak of 1.1 times the cap, a burst begins between the cap and 770 W, below the full clock."""
    peaked = msgspec.structs.replace(H200, power=msgspec.structs.replace(H200.power, cap_peak=1.1))
    operation = power(peaked).run(LatencyModel(peaked).demand(Work(1, 512, 512 * 256, 0, 0, 0, 1)), 0.0)
    assert 700 < operation.power_w <= 770
    assert operation.clock_mhz < 1980
    assert operation.cap_bound


@settings(deadline=None)
@given(st.lists(st.tuples(works, st.floats(0, 1)), min_size=1, max_size=30), st.integers(400, 700))
def test_energy_never_exceeds_the_cap_by_more_than_a_window(load: list[tuple[Work, float]], cap_w: int) -> None:
    """Over any time T after rest, steps whose cap is attainable take at most cap (T + window)."""
    model, latency = power(H200, cap_w), LatencyModel(H200)
    at_s = energy_j = 0.0
    for work, rest_s in load:
        model.hold(model.idle_w, at_s)
        at_s, energy_j = at_s + rest_s, energy_j + model.idle_w * rest_s
        operation = model.run(latency.demand(work), at_s)
        assert operation.attainable
        at_s, energy_j = at_s + operation.step_s, energy_j + operation.power_w * operation.step_s
        assert energy_j <= cap_w * (at_s + H200.power.cap_window_s) * (1 + 1e-9)


@settings(deadline=None)
@given(st.lists(works, min_size=1, max_size=20), st.integers(200, 700))
def test_without_a_window_every_step_is_capped_by_itself(load: list[Work], cap_w: int) -> None:
    """With a window of 0 what ran before does not matter."""
    instant = msgspec.structs.replace(H200, power=msgspec.structs.replace(H200.power, cap_window_s=0.0))
    model, latency = power(instant, cap_w), LatencyModel(instant)
    at_s = 0.0
    for work in load:
        demand = latency.demand(work)
        assert not model.settling(demand, at_s)
        operation = model.run(demand, at_s)
        assert operation == model.operate(demand)
        at_s += operation.step_s


def test_a_public_sweep_of_caps_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """28 cells of vLLM on an RTX PRO 6000: throughput within 5 %, power within 8 %, with each cap held out too."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    from benchmarks import power_capping

    sweep = power_capping.read()
    cells = power_capping.fitted(sweep) + power_capping.held_out(sweep)
    assert len(cells) == 2 * 28
    for cell in cells:
        assert abs(cell.throughput_error) <= 0.05
        assert abs(cell.power_error) <= 0.08

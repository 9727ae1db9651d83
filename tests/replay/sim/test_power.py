"""The latency and power models: their shape, and what caps and clock locks do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.sim.latency import LatencyModel, Work
from rejoule.replay.sim.power import PowerModel
from rejoule.replay.sim.profile import Profile, load_profile

H200 = load_profile("h200-llama-3.1-8b")
A100 = load_profile("a100-llama-3.1-8b")
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
    hungry = load_profile("a100-llama-3.1-8b")
    demand = LatencyModel(hungry).demand(decode(256, 2000))
    operation = power(hungry, 100).operate(demand)
    assert (operation.clock_mhz, operation.cap_bound, operation.attainable) == (210, True, False)


def test_a_clock_lock_slows_prefill_and_hardly_decode() -> None:
    """At two thirds of the clock, prefill loses about a third of its speed and a lone decode almost none."""
    latency = LatencyModel(A100)
    for work, least, most in ((PREFILL, 1.4, 1.51), (decode(1), 1.0, 1.01)):
        demand = latency.demand(work)
        ratio = power(A100, None, 945).operate(demand).step_s / power(A100).operate(demand).step_s
        assert least <= ratio <= most


def test_a_lone_decode_of_an_8b_model_takes_as_long_as_reading_its_weights() -> None:
    """15 GB at 70 % of 4.8 TB/s are 4.5 ms; overheads add less than a millisecond."""
    operation = power(H200).operate(LatencyModel(H200).demand(decode(1)))
    assert 0.0049 < operation.step_s < 0.0052

"""The latency model: how long a step takes, by its tokens, the clock, the kind of model and the number of GPUs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rejoule.replay.sim.latency import Demand, LatencyModel, Work
from rejoule.replay.sim.shipped import compose

PROFILES = [
    compose("h200-data-sheet", "llama-3.1-8b"),
    compose("a100", "llama-3.1-70b", 4),
    compose("h100", "qwen3-30b-a3b"),
    compose("h200-data-sheet", "deepseek-v2-lite", 2),
]
LATENCY = [LatencyModel(profile) for profile in PROFILES]
indices = st.integers(0, len(PROFILES) - 1)


def decode(batch: int, context: int = 1000) -> Work:
    return Work(decodes=batch, decode_context=batch * context)


def prefill(tokens: int, cached: int = 0) -> Work:
    return Work(1, tokens, tokens * (cached + tokens / 2), cached, 0, 0, 1)


works = st.one_of(
    st.builds(decode, st.integers(1, 512), st.integers(1, 20_000)),
    st.builds(prefill, st.integers(1, 16_384), st.integers(0, 50_000)),
)


def step_s(index: int, work: Work, share: float = 1.0) -> float:
    latency = LATENCY[index]
    return latency.time(latency.demand(work), share * PROFILES[index].gpu.max_clock_mhz).step_s


@settings(deadline=None)
@given(indices, st.integers(1, 511), st.integers(1, 20_000))
def test_more_sequences_or_longer_contexts_never_decode_faster(index: int, batch: int, context: int) -> None:
    """A step's time does not fall with its batch, nor with what it attends to."""
    assert step_s(index, decode(batch, context)) <= step_s(index, decode(batch + 1, context))
    assert step_s(index, decode(batch, context)) <= step_s(index, decode(batch, context + 1))


@settings(deadline=None)
@given(indices, st.integers(1, 16_383), st.integers(0, 50_000))
def test_more_tokens_never_prefill_faster(index: int, tokens: int, cached: int) -> None:
    """A step's time does not fall with the prompt tokens it computes, nor with those before them."""
    assert step_s(index, prefill(tokens, cached)) <= step_s(index, prefill(tokens + 1, cached))
    assert step_s(index, prefill(tokens, cached)) <= step_s(index, prefill(tokens, cached + 1))


@settings(deadline=None)
@given(indices, works, st.floats(0.2, 1), st.floats(0.2, 1))
def test_a_lower_clock_is_never_faster_nor_slower_than_in_proportion(
    index: int, work: Work, one: float, other: float
) -> None:
    """Between two clocks a step slows by no more than their ratio."""
    low, high = min(one, other), max(one, other)
    slow, fast = step_s(index, work, low), step_s(index, work, high)
    assert fast <= slow <= fast * high / low * (1 + 1e-9)


@settings(deadline=None)
@given(works, st.sampled_from([2, 4, 8]))
def test_more_gpus_gain_less_than_their_number(work: Work, gpus: int) -> None:
    """Tensor parallelism splits work, but adds all-reduces: N GPUs are never more than N times as fast."""
    one, many = (LatencyModel(compose("h100", "llama-3.1-8b", n)) for n in (1, gpus))
    alone = one.time(one.demand(work), 1980).step_s
    together = many.time(many.demand(work), 1980).step_s
    assert together > alone / gpus


def test_two_gpus_speed_up_a_large_prefill_and_a_heavy_decode() -> None:
    """Where there is much to do, a second H100 brings 1.6 to 2 times the speed."""
    for work in (prefill(8192), decode(256, 4000)):
        one, two = (LatencyModel(compose("h100", "qwen3-32b", n)) for n in (1, 2))
        ratio = one.time(one.demand(work), 1980).step_s / two.time(two.demand(work), 1980).step_s
        assert 1.6 < ratio < 2


def test_a_slower_link_costs_tensor_parallel_prefill() -> None:
    """The same two GPUs are slower over PCIe than over NVLink, by the bytes of their all-reduces."""
    fast = compose("h100", "llama-3.1-8b", 2)
    slow = msgspec.structs.replace(fast, gpu=msgspec.structs.replace(fast.gpu, link_bytes_per_s=32e9))
    work = prefill(8192)
    lost_s = LatencyModel(slow).demand(work).link_s - LatencyModel(fast).demand(work).link_s
    reduced, gathered = (2 * 32 + 1) * 8192 * 4096 * 2, 128_256 * 2 / 2
    per_byte_s = (1 / 32e9 - 1 / 450e9) / fast.timing.nccl_efficiency
    assert lost_s == pytest.approx((reduced + gathered) * per_byte_s)


def test_what_is_not_split_does_not_shrink_with_more_gpus() -> None:
    """Norms go over every token's activations on each GPU: two GPUs take more than half the time beside all-reduces."""
    one, two = (LatencyModel(compose("h100", "llama-3.1-8b", n)) for n in (1, 2))
    work = prefill(8192)
    alone, together = one.demand(work), two.demand(work)
    assert together.compute_s == pytest.approx(alone.compute_s / 2)
    left_s = together.overhead_s - together.link_s - alone.overhead_s
    assert left_s == pytest.approx(0.5 * 32 * 8 * 4096 * 2 * 8192 / (3.35e12 * 0.7), rel=0.2)


def test_several_workers_cost_the_host_of_each_step_and_launch_each_all_reduce_without_graphs() -> None:
    profile = compose("h200-data-sheet", "llama-3.1-8b", 2)
    timing = msgspec.structs.replace(profile.timing, host_eager_s=0.01)
    one, two = (LatencyModel(msgspec.structs.replace(profile, timing=timing, tensor_parallel=n)).demand for n in (1, 2))
    assert two(decode(1)).host_s - one(decode(1)).host_s == pytest.approx(timing.host_workers_s)
    launched_s = two(prefill(2048)).host_s - one(prefill(2048)).host_s
    assert launched_s == pytest.approx(timing.host_workers_s + 65 * timing.host_all_reduce_s)


def test_a_few_tokens_touch_few_experts_and_many_touch_all() -> None:
    """One token reads 8 of 128 experts, a large batch all of them, and 8 tokens E(1 - (1 - k/E)^8)."""
    profile = compose("h200-data-sheet", "qwen3-30b-a3b")
    latency, model = LatencyModel(profile), profile.model
    width = profile.timing.memory_efficiency * profile.gpu.hbm_bytes_per_s
    always = (model.layer_parameters + model.head_parameters) * model.bytes_per_weight / width
    one_expert = model.expert_parameters * model.bytes_per_weight / width

    def touched(tokens: int) -> float:
        work = Work(decodes=tokens, decode_context=0)
        return (latency.demand(work).memory_s - always - tokens * model.kv_bytes_per_token / width) / one_expert

    assert touched(1) == pytest.approx(8)
    assert touched(8) == pytest.approx(128 * (1 - (1 - 8 / 128) ** 8))
    assert touched(512) == pytest.approx(128)


def test_latent_attention_reads_less_cache_than_heads_would() -> None:
    """At long contexts DeepSeek-V2-Lite's cache costs a ninth of what keys and values of its 16 heads would."""
    latency = LatencyModel(compose("h200-data-sheet", "deepseek-v2-lite"))
    short, long = (latency.demand(decode(64, context)).memory_s for context in (1000, 11_000))
    width = 0.7 * 4.8e12
    assert long - short == pytest.approx(64 * 10_000 * 27 * 576 * 2 / width)


def test_decodes_are_padded_to_a_captured_graph() -> None:
    """33 sequences compute as much as 40, for which a CUDA graph was captured."""
    latency = LATENCY[0]
    assert latency.demand(decode(33, 0)).compute_s == pytest.approx(latency.demand(decode(40, 0)).compute_s, rel=0.02)


def test_the_host_hides_behind_the_gpu_until_it_is_slower() -> None:
    """With asynchronous scheduling a step takes the longer of its GPU's and its host's time."""
    latency = LATENCY[0]
    assert latency.time(Demand(0.001, 0.002, 0, 0.01), 1980).step_s == 0.01
    assert latency.time(Demand(0.001, 0.002, 0, 0.001), 1980).step_s > 0.002


def test_steps_beyond_the_captured_graphs_are_launched_kernel_by_kernel() -> None:
    """Graphs reach to 2 max_num_seqs tokens, and to 512 at most."""
    profile = compose("h200-data-sheet", "llama-3.1-8b")
    profile = msgspec.structs.replace(
        profile, timing=msgspec.structs.replace(profile.timing, host_prefill_s=0.001, host_eager_s=0.01)
    )
    for seats, captured in ((1, 2), (8, 16), (64, 128), (256, 512), (1024, 512)):
        latency = LatencyModel(profile, seats)
        within, beyond = (latency.demand(Work(prefills=1, prefill_tokens=n)).host_s for n in (captured, captured + 1))
        assert beyond - within == pytest.approx(0.009)

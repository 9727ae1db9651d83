"""All-reduces go the way that vLLM sends them, and take what was published of each."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from rejoule.replay.sim.all_reduce import Exchange, Way
from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.shipped import compose

KIB, MIB = 2**10, 2**20


def hopper(gpus: int) -> Profile:
    return compose("h200-data-sheet", "llama-3.1-8b", gpus)


@pytest.mark.parametrize(
    ("gpus", "message_bytes", "way"),
    [
        (2, 8 * KIB, "one shot"),
        (2, 8 * MIB - 16, "one shot"),
        (2, 8 * MIB, "NCCL"),
        (4, 512 * KIB - 16, "one shot"),
        (4, 512 * KIB, "two shots"),
        (8, 256 * KIB - 16, "one shot"),
        (8, 256 * KIB, "two shots"),
        (8, 8 * MIB, "NCCL"),
    ],
)
def test_the_size_and_the_number_of_gpus_choose_the_way(gpus: int, message_bytes: int, way: Way) -> None:
    assert Exchange(hopper(gpus)).way(message_bytes) == way
    assert Exchange(hopper(gpus), custom=False).way(message_bytes) == "NCCL"


@pytest.mark.parametrize(
    ("gpu", "gpus", "way"),
    [
        ("l40s", 2, "one shot"),
        ("l40s", 4, "NCCL"),
        ("rtx-4090", 2, "NCCL"),
        ("h200", 16, "NCCL"),
    ],
)
def test_without_nvlink_only_two_that_reach_each_other_go_without_nccl(gpu: str, gpus: int, way: Way) -> None:
    assert Exchange(compose(gpu, "llama-3.1-8b", gpus)).way(8 * KIB) == way


PUBLISHED = {
    ("h200", 2): {
        8 * KIB: 4.55,
        256 * KIB: 5.13,
        MIB: 8.35,
        4 * MIB: 20.3,
        8 * MIB: 43.0,
        32 * MIB: 145,
        64 * MIB: 246,
    },
    ("h200", 4): {8 * KIB: 4.70, 256 * KIB: 7.02, 512 * KIB: 10.5, 4 * MIB: 29.9},
    ("h200", 8): {8 * KIB: 5.02, 128 * KIB: 8.0, 256 * KIB: 9.9, 4 * MIB: 28.7},
    ("h100", 2): {8 * KIB: 4.48, MIB: 8.41, 4 * MIB: 20.2, 8 * MIB: 44.9},
    ("a100", 2): {8 * KIB: 5.2, MIB: 10.7, 4 * MIB: 25.6, 32 * MIB: 223, 64 * MIB: 394},
    ("a100", 4): {256 * KIB: 10.2, 512 * KIB: 14.5, 4 * MIB: 41.6},
}
"""Microseconds in CUDA graphs, of vLLM 0.20 on one host of each: ai-dynamo/aiconfigurator, custom_allreduce_perf.txt.

Its sizes count values of two bytes: times jump where vLLM hands over to NCCL, at 4,194,304 of them.
"""


@pytest.mark.parametrize(("gpu", "gpus"), PUBLISHED)
def test_times_are_within_a_sixth_of_published_ones(gpu: str, gpus: int) -> None:
    exchange = Exchange(compose(gpu, "llama-3.1-8b", gpus))
    for message_bytes, published_us in PUBLISHED[gpu, gpus].items():
        assert exchange.all_reduce_s(message_bytes) == pytest.approx(published_us * 1e-6, rel=1 / 6), message_bytes


def test_nccls_first_size_is_a_fifth_too_fast_on_a100s() -> None:
    """Its latency there is that of small messages; 8 MiB are published to take 87 us."""
    got_s = Exchange(compose("a100", "llama-3.1-8b", 2)).all_reduce_s(8 * MIB)
    assert got_s == pytest.approx(87e-6 * 0.8, rel=0.03)


@pytest.mark.parametrize("gpus", [2, 4, 8])
@pytest.mark.parametrize("tokens", [1, 8, 64, 511])
def test_vllms_own_kernels_are_no_slower_than_nccl_on_what_decodes_exchange(gpus: int, tokens: int) -> None:
    own, nccl = (Exchange(hopper(gpus), custom).step_s(tokens, tokens) for custom in (True, False))
    assert own < nccl


def test_one_gpu_exchanges_nothing() -> None:
    assert Exchange(hopper(1)).step_s(64, 64) == 0.0


def test_logits_are_gathered_of_the_tokens_that_are_sampled() -> None:
    """64 rows of 128,256 logits over two GPUs: each has half of them, and gets the other half."""
    profile = hopper(2)
    exchange, timing = Exchange(profile), profile.timing
    assert timing.nccl_s is not None
    got_s = 64 * 128_256 * 2 / 2 / (timing.nccl_efficiency * 450e9)
    assert exchange.step_s(512, 64) - exchange.step_s(512, 0) == pytest.approx(timing.nccl_s + got_s)


def test_a_profile_of_before_ways_were_told_apart_has_one_latency() -> None:
    profile = hopper(4)
    old = replace(profile, timing=replace(profile.timing, two_shot_s=None, nccl_s=None, all_reduce_s=1e-5))
    exchange = Exchange(old)
    assert [exchange.all_reduce_s(b) > 1e-5 for b in (KIB, MIB, 8 * MIB)] == [True] * 3
    assert exchange.all_reduce_s(16) == pytest.approx(1e-5, rel=0.01)

"""The knobs of a simulated engine, and what they come to with its profile."""

from __future__ import annotations

from dataclasses import dataclass

from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.kv_memory import AUTO, blocks_by_bytes, blocks_by_share, stored_as
from rejoule.replay.sim.latency import LatencyModel
from rejoule.replay.sim.limits import Limits, Policy
from rejoule.replay.sim.profile import Profile
from rejoule.traces.engine_options import KV_MEMORY
from rejoule.traces.errors import RejouleError

MOST = 10**8
"""No GPU has room for more sequences, tokens in a step, or KV blocks."""


@dataclass(frozen=True)
class EngineConfig:
    """An engine's knobs; ``None`` takes the profile's default. ``seed`` is only for what the model says."""

    profile: Profile
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    num_gpu_blocks: int | None = None
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    async_scheduling: bool = True
    scheduling_policy: Policy = "fcfs"
    enforce_eager: bool = False
    cudagraph_capture_sizes: tuple[int, ...] | None = None
    kv_cache_dtype: str = AUTO
    gpu_memory_utilization: float | None = None
    kv_cache_memory_bytes: int | None = None
    disable_custom_all_reduce: bool = False
    power_cap_w: float | None = None
    sm_clock_mhz: int | None = None
    seed: int = 0

    def limits(self) -> Limits:
        """What bounds a step. Raises RejouleError for values that no engine takes."""
        serving = self.profile.serving
        seats = serving.max_num_seqs if self.max_num_seqs is None else self.max_num_seqs
        budget = self.max_num_batched_tokens
        if budget is None:
            budget = max(serving.max_num_batched_tokens, seats)
        _check("max_num_seqs", seats, 1)
        _check("max_num_batched_tokens", budget, 1)
        if budget < seats:
            raise RejouleError(
                f"max_num_batched_tokens ({budget}) is below max_num_seqs ({seats})", "raise the one or lower the other"
            )
        if self.scheduling_policy not in ("fcfs", "priority"):
            raise RejouleError(f"no scheduling policy {self.scheduling_policy!r}", "take fcfs or priority")
        if self.long_prefill_token_threshold < 0:
            raise RejouleError("long_prefill_token_threshold is negative", "take 0 for none, or a number of tokens")
        return Limits(
            seats,
            budget,
            self.scheduling_policy,
            self.long_prefill_token_threshold,
            self.enable_chunked_prefill,
            self.async_scheduling,
        )

    def latency(self) -> LatencyModel:
        """How long steps take. Raises RejouleError where the profile does not know what an option costs."""
        limits, sizes = self.limits(), self.cudagraph_capture_sizes
        if self.enforce_eager and sizes is not None:
            raise RejouleError("enforce_eager captures none of the cudagraph_capture_sizes", "leave one of them out")
        if (self.enforce_eager or sizes is not None) and not self.profile.timing.host_eager_s:
            raise RejouleError(
                f"the profile {self.profile.name} does not know what steps without CUDA graphs cost the host",
                "take one that is calibrated, or give it timing.host_eager_s",
            )
        for size in sizes or ():
            _check("a size of cudagraph_capture_sizes", size, 1)
        profile = stored_as(self.profile, self.kv_cache_dtype)
        sizes = () if self.enforce_eager else sizes if sizes is None else tuple(sorted(set(sizes)))
        custom = not self.disable_custom_all_reduce
        return LatencyModel(profile, limits.max_num_seqs, sizes, limits.async_scheduling, custom)

    def pool(self) -> BlockPool:
        """An empty KV cache. Raises RejouleError if it would have no block to use."""
        profile = stored_as(self.profile, self.kv_cache_dtype)
        given = [name for name in KV_MEMORY if getattr(self, name) is not None]
        if len(given) > 1:
            raise RejouleError(f"{' and '.join(given)} both say how much the KV cache holds", "leave one of them out")
        blocks = profile.serving.num_gpu_blocks if self.num_gpu_blocks is None else self.num_gpu_blocks
        if self.gpu_memory_utilization is not None:
            blocks = blocks_by_share(profile, self.gpu_memory_utilization)
        elif self.kv_cache_memory_bytes is not None:
            blocks = blocks_by_bytes(profile, self.kv_cache_memory_bytes)
        _check("num_gpu_blocks", blocks, 2)
        return BlockPool(blocks, profile.serving.block_size, self.enable_prefix_caching)


def _check(name: str, value: int, least: int) -> None:
    if not least <= value <= MOST:
        raise RejouleError(f"{name} is {value}", f"take {least} to {MOST}")

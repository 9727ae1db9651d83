"""The knobs of a simulated engine, and what they come to with its profile."""

from __future__ import annotations

from dataclasses import dataclass

from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.limits import Limits, Policy
from rejoule.replay.sim.profile import Profile
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

    def pool(self) -> BlockPool:
        """An empty KV cache. Raises RejouleError if it would have no block to use."""
        serving = self.profile.serving
        blocks = serving.num_gpu_blocks if self.num_gpu_blocks is None else self.num_gpu_blocks
        _check("num_gpu_blocks", blocks, 2)
        return BlockPool(blocks, serving.block_size, self.enable_prefix_caching)


def _check(name: str, value: int, least: int) -> None:
    if not least <= value <= MOST:
        raise RejouleError(f"{name} is {value}", f"take {least} to {MOST}")

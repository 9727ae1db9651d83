"""vLLM's options about the memory of keys and values: of which type they are, and how many blocks there are of them."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from rejoule.replay.sim.profile import Profile
from rejoule.replay.sim.serving import blocks_in, kv_memory_bytes
from rejoule.traces.errors import RejouleError

AUTO: Final = "auto"
BYTES: Final = {"float16": 2.0, "bfloat16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}
"""Of one value, by what ``kv_cache_dtype`` may be besides ``auto``, which is as the profile has it."""


def stored_as(profile: Profile, dtype: str) -> Profile:
    """``profile`` with keys and values of ``dtype``: other bytes to move, and as many more blocks in the same memory.

    That attention computes otherwise with them is not modelled. Raises RejouleError for a type that is none.
    """
    if dtype == AUTO:
        return profile
    if dtype not in BYTES:
        raise RejouleError(f"no kv_cache_dtype {dtype!r} is modelled", f"take {AUTO}, {', '.join(BYTES)}")
    model, serving = profile.model, profile.serving
    blocks = int(serving.num_gpu_blocks * model.bytes_per_kv / BYTES[dtype])
    return replace(
        profile,
        model=replace(model, bytes_per_kv=BYTES[dtype]),
        serving=replace(serving, num_gpu_blocks=blocks),
    )


def blocks_by_share(profile: Profile, share: float) -> int:
    """Of vLLM's ``gpu_memory_utilization``, counted as ``default_serving`` does. Raises RejouleError if too small."""
    if not 0 < share <= 1:
        raise RejouleError(f"gpu_memory_utilization is {share:g}", "take a share above 0, and up to 1")
    model, gpus = profile.model, profile.tensor_parallel
    blocks = blocks_in(kv_memory_bytes(model, profile.gpu, gpus, share), model, gpus, profile.serving.block_size)
    if blocks < 2:
        raise RejouleError(
            f"gpu_memory_utilization {share:g} leaves no memory for keys and values beside the weights of "
            f"{profile.name}",
            "raise it, or take a smaller model",
        )
    return blocks


def blocks_by_bytes(profile: Profile, kv_bytes: int) -> int:
    """Of vLLM's ``kv_cache_memory_bytes``, of each GPU. Raises RejouleError for what the GPU does not have."""
    gpu, gpus = profile.gpu, profile.tensor_parallel
    blocks = blocks_in(kv_bytes, profile.model, gpus, profile.serving.block_size)
    if blocks < 2 or kv_bytes > kv_memory_bytes(profile.model, gpu, gpus, 1.0):
        raise RejouleError(
            f"kv_cache_memory_bytes is {kv_bytes:,}: too little for two blocks, or more than the {gpu.name} has beside "
            "the weights",
            f"give bytes; it has {gpu.memory_bytes:,.0f} in all",
        )
    return blocks

"""What vLLM would choose for a model on GPUs: batch limits, CUDA graphs, and KV blocks by what memory is left."""

from __future__ import annotations

from rejoule.replay.sim.profile import Gpu, ModelShape, Serving
from rejoule.traces.errors import RejouleError

BLOCK_SIZE = 16
"""Tokens in a KV block: vLLM's default."""

MEMORY_SHARE = 0.92
"""vLLM's default ``gpu_memory_utilization``."""


def default_serving(name: str, model: ModelShape, gpu: Gpu, tensor_parallel: int = 1) -> Serving:
    """What vLLM would choose. Raises RejouleError, about ``name``, where it could not serve.

    Limits on batches are those of vLLM V1's API server, by the memory of one GPU. KV blocks fill what
    ``gpu_memory_utilization`` leaves beside the weights and 4 GB, or 8 % of a small GPU, for activations and CUDA
    graphs (assumed). CUDA graphs are captured for 1, 2, 4, each multiple of 8 below 256, and of 16 up to 512.
    """
    if model.heads % tensor_parallel:
        raise RejouleError(
            f"{name}: {model.heads} attention heads cannot be split over {tensor_parallel} GPUs",
            "take a divisor of the number of heads",
        )
    if tensor_parallel > 1 and gpu.link_bytes_per_s is None:
        raise RejouleError(
            f"{name}: how the {gpu.name} is linked is unknown", "set gpu.link_bytes_per_s, or take one GPU"
        )
    blocks = blocks_in(kv_memory_bytes(model, gpu, tensor_parallel), model, tensor_parallel)
    if blocks < 2:
        weights = model.parameters * model.bytes_per_weight
        raise RejouleError(
            f"{name}: {weights / 2**30:.0f} GiB of weights do not fit into {tensor_parallel} x {gpu.name} "
            f"({gpu.memory_bytes / 2**30:.0f} GiB each, {MEMORY_SHARE:.0%} of it for vLLM)",
            "take more GPUs (-tpN) or a smaller model",
        )
    gib = gpu.memory_bytes / 2**30
    large = gib >= 70 and "A100" not in gpu.name
    return Serving(
        block_size=BLOCK_SIZE,
        num_gpu_blocks=blocks,
        max_num_seqs=1024 if large else 256,
        max_num_batched_tokens=16384 if gib >= 160 else 8192 if large else 2048,
        graph_sizes=(1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)),
    )


def kv_memory_bytes(model: ModelShape, gpu: Gpu, tensor_parallel: int, share: float = MEMORY_SHARE) -> float:
    """What each GPU has for keys and values if vLLM may take ``share`` of its memory; below 0 if weights do not fit."""
    reserve = min(4e9, 0.08 * gpu.memory_bytes)
    return share * gpu.memory_bytes - reserve - model.parameters * model.bytes_per_weight / tensor_parallel


def blocks_in(kv_bytes: float, model: ModelShape, tensor_parallel: int, block_size: int = BLOCK_SIZE) -> int:
    """How many KV blocks of ``block_size`` tokens ``kv_bytes`` of each GPU hold."""
    return int(kv_bytes // (block_size * model.kv_bytes_per_token / model.kv_split(tensor_parallel)))

"""Which requests an engine can serve at all."""

from __future__ import annotations

from rejoule.replay.sim.jobs import SimRequest
from rejoule.replay.sim.kv_cache import BlockPool
from rejoule.replay.sim.limits import Limits
from rejoule.traces.errors import RejouleError


def check_request(request: SimRequest, limits: Limits, pool: BlockPool) -> None:
    """Raises ValueError for a request that is none, and RejouleError for one that could never run."""
    if request.output_tokens < 1 or not len(request.prompt_ids):
        raise ValueError(f"request {request.id!r} needs a prompt and at least one output token")
    if request.output_ids is not None and len(request.output_ids) != request.output_tokens:
        raise ValueError(f"request {request.id!r} has {len(request.output_ids)} output ids, not output_tokens")
    prompt = len(request.prompt_ids)
    if not limits.enable_chunked_prefill and prompt + request.output_tokens > limits.max_num_batched_tokens:
        raise RejouleError(
            f"request {request.id!r} of {prompt} prompt tokens needs more than one step",
            "raise max_num_batched_tokens, or leave chunked prefill on",
        )
    tokens = prompt + request.output_tokens
    if -(-tokens // pool.block_size) > pool.capacity:
        held = pool.capacity * pool.block_size
        raise RejouleError(
            f"request {request.id!r} of {tokens:,} tokens does not fit into the KV blocks, which hold {held:,}",
            "scale its input or output down, or take a profile with more KV blocks",
        )

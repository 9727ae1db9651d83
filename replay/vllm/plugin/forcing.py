"""The request with which a server emits the recorded tokens: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rejoule.traces import RejouleError

Forcing = Literal["logits-processor", "trace-replay"]
"""How a server is made to emit recorded tokens: by our logits processor, or by vLLM's own trace replay."""

FORCED_KEY = "forced_token_ids"

# What could end an output earlier; and the seed, with which vLLM 0.30 on a CPU dies in the middle of a long prompt.
_DROPPED = ("stop", "stop_token_ids", "min_tokens", "max_completion_tokens", "seed")


def forced_request(body: Mapping[str, Any], token_ids: Sequence[int], forcing: Forcing) -> dict[str, Any]:
    """The request ``body`` with which the server emits exactly ``token_ids`` and ends with reason ``length``.

    With ``logits-processor`` the body is one of ``/v1/chat/completions`` or ``/v1/completions``; with ``trace-replay``
    one of ``/inference/v1/generate``, the only route by which vLLM takes the ids. Whatever could end the output earlier
    is taken out; what costs the server work (temperature, penalties, tools, log probabilities) stays as it was.
    """
    if not token_ids:
        raise RejouleError("a call without output tokens cannot be forced", "leave it out, or replay in tier lengths")
    length = {"max_tokens": len(token_ids), "ignore_eos": True}
    if forcing == "trace-replay":
        params = {k: v for k, v in body.get("sampling_params", {}).items() if k not in _DROPPED}
        return {**body, "sampling_params": {**params, **length, "trace_decode_token_ids": list(token_ids)}}
    # A string, not a list: completions take lists only since 0.26, and vLLM validates a list item by item.
    forced = {**(body.get("vllm_xargs") or {}), FORCED_KEY: ",".join(map(str, token_ids))}
    return {**{k: v for k, v in body.items() if k not in _DROPPED}, **length, "vllm_xargs": forced}

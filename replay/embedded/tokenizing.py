"""vLLM's requests to tokenize and detokenize: their bodies in, the bodies of the answers out."""

from __future__ import annotations

from typing import Any

from rejoule.replay.embedded import tokenizer
from rejoule.replay.embedded.http_errors import BadRequestError
from rejoule.replay.embedded.protocol import Body, Limits, model_of


def tokenized(body: Body, limits: Limits) -> dict[str, Any]:
    """The token ids of messages, or of a prompt. Raises BadRequestError without either, NotFoundError for the model."""
    model_of(body, limits)
    if isinstance(body.get("messages"), list):
        tools = body.get("tools")
        ids = tokenizer.chat_ids(body["messages"], tools, bool(body.get("add_generation_prompt", True)))
    elif isinstance(body.get("prompt"), str):
        ids = [tokenizer.BEGIN] if body.get("add_special_tokens", True) else []
        ids += tokenizer.encode(body["prompt"])
    else:
        raise BadRequestError("either prompt or messages is required", "prompt")
    strings = list(map(tokenizer.token_text, ids)) if body.get("return_token_strs") else None
    return {"count": len(ids), "max_model_len": limits.max_model_len, "tokens": ids, "token_strs": strings}


def detokenized(body: Body, limits: Limits) -> dict[str, Any]:
    """The text of token ids. Raises BadRequestError if there are none, NotFoundError for the model."""
    model_of(body, limits)
    ids = body.get("tokens")
    if not isinstance(ids, list) or not all(isinstance(i, int) and i >= 0 for i in ids):
        raise BadRequestError("tokens must be a list of token ids", "tokens")
    return {"prompt": tokenizer.decode(ids)}

"""Response bodies of the OpenAI API, as vLLM fills them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from rejoule.replay.embedded.outputs import deltas
from rejoule.replay.embedded.protocol import Call

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """Everything about one answer of a response but its timing. ``chat`` tells a chat completion from a plain one."""

    id: str
    call: Call
    created: int
    chat: bool
    index: int = 0

    def choice(self) -> dict[str, Any]:
        """The answer in one piece."""
        said = self.call.answer
        choice: dict[str, Any] = {"index": self.index}
        if self.chat:
            choice["message"] = {
                "role": "assistant",
                "content": None if said.tool_calls else said.text,
                "refusal": None,
                "tool_calls": [
                    {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                    for call in said.tool_calls
                ],
            }
        else:
            choice["text"] = said.text
        choice |= {"logprobs": None, "finish_reason": said.finish_reason, "stop_reason": None}
        if self.call.return_token_ids:
            choice["token_ids"] = said.ids
            if not self.chat:
                choice["prompt_token_ids"] = self.call.prompt_ids
        return choice

    def chunks(self, first: int, last: int, cached_tokens: int) -> Iterator[bytes]:
        """The stream's events for the answer's tokens from ``first`` up to ``last``."""
        said = self.call.answer
        if first == 0 and self.chat:
            yield self._chunk({"delta": {"role": "assistant", "content": ""}}, [], None, 0, cached_tokens, True)
        for at in range(first, last):
            finish = said.finish_reason if at == len(said.ids) - 1 else None
            delta = self._deltas[at]
            part = {"delta": delta} if self.chat else {"text": delta.get("content", "")}
            opens = at == 0 and not self.chat
            yield self._chunk(part, [said.ids[at]], finish, at + 1, cached_tokens, opens)

    @cached_property
    def _deltas(self) -> list[dict[str, Any]]:
        return deltas(self.call.answer)

    @property
    def chunk_object(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.call.model}

    def _chunk(
        self, part: dict[str, Any], ids: list[int], finish: str | None, tokens: int, cached_tokens: int, opens: bool
    ) -> bytes:
        choice = {"index": self.index, **part, "logprobs": None, "finish_reason": finish}
        body = self.head(self.chunk_object) | {"choices": [choice]}
        if self.call.return_token_ids:
            choice["token_ids"] = ids
            if opens:
                where = body if self.index == 0 else choice
                where["prompt_token_ids"] = self.call.prompt_ids
        if self.call.continuous_usage:
            body["usage"] = _usage(len(self.call.prompt_ids), tokens, cached_tokens)
        return b"data: " + orjson.dumps(body, default=list) + b"\n\n"


def whole(replies: Sequence[Reply], cached_tokens: Sequence[int]) -> bytes:
    """The body when not streamed."""
    first = replies[0]
    body = first.head("chat.completion" if first.chat else "text_completion")
    body["choices"] = [reply.choice() for reply in replies]
    if first.call.return_token_ids:
        body["prompt_token_ids"] = first.call.prompt_ids
    body["usage"] = _all_used(replies, cached_tokens)
    return orjson.dumps(body, default=list)


def last_usage(replies: Sequence[Reply], cached_tokens: Sequence[int]) -> bytes:
    """The event after the last chunk that ``include_usage`` asks for."""
    first = replies[0]
    body = first.head(first.chunk_object) | {"choices": [], "usage": _all_used(replies, cached_tokens)}
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _all_used(replies: Sequence[Reply], cached_tokens: Sequence[int]) -> dict[str, Any]:
    """A prompt that has several answers is counted once, as its first one found it."""
    prompts = [(len(r.call.prompt_ids), hit) for r, hit in zip(replies, cached_tokens, strict=True) if not r.call.again]
    tokens = sum(len(reply.call.answer.ids) for reply in replies)
    return _usage(sum(prompt for prompt, _ in prompts), tokens, sum(hit for _, hit in prompts))


def _usage(prompt: int, tokens: int, cached_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + tokens,
        "completion_tokens": tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }

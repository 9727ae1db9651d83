"""Response bodies of the OpenAI API, as vLLM fills them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from rejoule.replay.embedded.outputs import deltas
from rejoule.replay.embedded.protocol import Call

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """Everything about one response but its timing. ``chat`` tells a chat completion from a plain one."""

    id: str
    call: Call
    created: int
    chat: bool

    def whole(self, cached_tokens: int) -> bytes:
        """The body when not streamed."""
        said = self.call.answer
        choice: dict[str, Any] = {"index": 0}
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
        body = self._head("chat.completion" if self.chat else "text_completion") | {"choices": [choice]}
        if self.call.return_token_ids:
            choice["token_ids"] = said.ids
            if not self.chat:
                choice["prompt_token_ids"] = self.call.prompt_ids
            body["prompt_token_ids"] = self.call.prompt_ids
        body["usage"] = self.usage(len(said.ids), cached_tokens)
        return orjson.dumps(body, default=list)

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

    def last_usage(self, cached_tokens: int) -> bytes:
        """The event after the last chunk that ``include_usage`` asks for."""
        body = self._head(self._chunk_object) | {
            "choices": [],
            "usage": self.usage(len(self.call.answer.ids), cached_tokens),
        }
        return b"data: " + orjson.dumps(body) + b"\n\n"

    def usage(self, tokens: int, cached_tokens: int) -> dict[str, Any]:
        """What was used once ``tokens`` tokens are out."""
        prompt = len(self.call.prompt_ids)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + tokens,
            "completion_tokens": tokens,
            "prompt_tokens_details": {"cached_tokens": cached_tokens},
        }

    @cached_property
    def _deltas(self) -> list[dict[str, Any]]:
        return deltas(self.call.answer)

    @property
    def _chunk_object(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.call.model}

    def _chunk(
        self, part: dict[str, Any], ids: list[int], finish: str | None, tokens: int, cached_tokens: int, opens: bool
    ) -> bytes:
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish}
        body = self._head(self._chunk_object) | {"choices": [choice]}
        if self.call.return_token_ids:
            choice["token_ids"] = ids
            if opens:
                body["prompt_token_ids"] = self.call.prompt_ids
        if self.call.continuous_usage:
            body["usage"] = self.usage(tokens, cached_tokens)
        return b"data: " + orjson.dumps(body, default=list) + b"\n\n"

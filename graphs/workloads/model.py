"""Asking the model: free text, or an answer that follows a schema."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any, cast

from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from rejoule.graphs.workloads.schema import Schema, conforms, most_chars

Message = dict[str, str]


def system(content: str) -> Message:
    """What the model is told about its part."""
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    """What the model is asked."""
    return {"role": "user", "content": content}


def assistant(content: str) -> Message:
    """What the model said; templates refuse an empty turn."""
    return {"role": "assistant", "content": content or "(no answer)"}


def derived_seed(seed: int, *place: str | int) -> int:
    """A seed for one place in a workflow, so that equal prompts in two places may be answered differently."""
    return random.Random(repr((seed, *place))).getrandbits(31)


@dataclass(frozen=True)
class StructuredAnswer:
    """What the model said, and what that means under the schema; ``value`` is None where it breaks it."""

    said: str
    value: Any


@dataclass(frozen=True)
class Model:
    """One model behind one client."""

    client: AsyncOpenAI
    name: str

    async def text(self, messages: list[Message], *, max_tokens: int, seed: int) -> str:
        """A free answer, cut at ``max_tokens``."""
        response = await self.client.chat.completions.create(
            model=self.name, messages=_params(messages), max_tokens=max_tokens, seed=seed
        )
        return (response.choices[0].message.content or "").strip()

    async def streamed_text(self, messages: list[Message], *, max_tokens: int, seed: int) -> str:
        """The same, read as it comes."""
        stream = await self.client.chat.completions.create(
            model=self.name,
            messages=_params(messages),
            max_tokens=max_tokens,
            seed=seed,
            stream=True,
            stream_options={"include_usage": True},
        )
        async with stream:
            pieces = [choice.delta.content or "" async for chunk in stream for choice in chunk.choices[:1]]
        return "".join(pieces).strip()

    async def answer(self, messages: list[Message], name: str, schema: Schema, *, seed: int) -> StructuredAnswer:
        """An answer under a schema, with room for the longest one even at a token a character."""
        response = await self.client.chat.completions.create(
            model=self.name,
            messages=_params(messages),
            max_tokens=most_chars(schema),
            seed=seed,
            response_format={"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}},
        )
        said = (response.choices[0].message.content or "").strip()
        try:
            value = json.loads(said, strict=False)
        except (ValueError, RecursionError):
            return StructuredAnswer(said, None)
        return StructuredAnswer(said, value if conforms(value, schema) else None)


def _params(messages: list[Message]) -> list[ChatCompletionMessageParam]:
    return cast(list[ChatCompletionMessageParam], messages)

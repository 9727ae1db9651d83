"""A way-station in front of an OpenAI-compatible server, which notes what each request was and how long its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from aiohttp import ClientSession, ClientTimeout, web


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and its answer, by this process's monotonic clock."""

    text: str
    most_tokens: int
    prompt_tokens: int
    output_tokens: int
    began_s: float
    ended_s: float


@asynccontextmanager
async def watching(server: str, port: int, exact_lengths: bool) -> AsyncIterator[list[Seen]]:
    """Passes chats on to ``server``, the root of an API, while it is open.

    With ``exact_lengths`` it asks for as many tokens as are allowed, which Parrot itself cannot.
    """
    seen: list[Seen] = []

    async def chat(request: web.Request) -> web.Response:
        body, began_s = await request.json(), monotonic()
        if exact_lengths:
            body |= {"min_tokens": body["max_tokens"], "ignore_eos": True}
        async with session.post(f"{server}/chat/completions", json=body) as answer:
            told = await answer.json()
        if usage := told.get("usage"):
            text = "".join(message["content"] for message in body["messages"])
            tokens = usage["prompt_tokens"], usage["completion_tokens"]
            seen.append(Seen(text, body["max_tokens"], *tokens, began_s, monotonic()))
        return web.json_response(told, status=answer.status)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app)
    async with ClientSession(timeout=ClientTimeout(total=None)) as session:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield seen
        finally:
            await runner.cleanup()

"""A small OpenAI-compatible server that keeps what it saw, by its own clock."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Sighting:
    """One request, from its arrival to its last byte."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    begun: float
    ended: float | None = None


@dataclass
class Witness:
    """Echoes prompts. A prompt steers it: ``SLEEP=0.1`` waits, ``FAIL`` refuses once, ``BROKEN`` always,
    ``CUT`` drops the stream, ``TOOLS=n`` asks for tools until ``n`` were answered, ``PARALLEL=n`` for n at once.
    """

    owned_by: str = "rejoule"
    sightings: list[Sighting] = field(default_factory=list)
    base_url: str = ""
    _failed: set[str] = field(default_factory=set)

    def by_request(self) -> dict[str, Sighting]:
        return {sighting.headers["x-request-id"]: sighting for sighting in self.sightings}

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"object": "list", "data": [{"id": "tiny", "owned_by": self.owned_by, "max_model_len": 4096}]}
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen = Sighting(request.path, {k.lower(): v for k, v in request.headers.items()}, body, time.monotonic())
        self.sightings.append(seen)
        prompt = _prompt(body)
        if "BROKEN" in prompt or ("FAIL" in prompt and prompt not in self._failed):
            self._failed.add(prompt)
            seen.ended = time.monotonic()
            key = request.headers.get("authorization", "")
            return web.json_response({"error": {"message": f"boom for {key}"}}, status=500)
        await asyncio.sleep(float(_setting(prompt, "SLEEP", "0.005")))
        words = f"echo {prompt[:60]}".split(" ")
        calls = _tool_calls(body, prompt)
        if body.get("stream"):
            return await self._stream(request, seen, body, words, calls)
        seen.ended = time.monotonic()
        message = {"role": "assistant", "content": None if calls else " ".join(words), "tool_calls": calls or None}
        chat = request.path.endswith("/chat/completions")
        choice: dict[str, Any] = {"index": 0, "finish_reason": "tool_calls" if calls else "stop"} | (
            {"message": message} if chat else {"text": " ".join(words)}
        )
        answer: dict[str, Any] = {"id": "x", "object": "chat.completion" if chat else "text_completion", "created": 0}
        answer |= {"model": body["model"], "choices": [choice], "usage": _usage(words)}
        if body.get("return_token_ids"):
            answer["prompt_token_ids"] = [1, 2, 3, 4, 5]
            choice["token_ids"] = list(range(len(words)))
        return web.json_response(answer)

    async def _stream(
        self, request: web.Request, seen: Sighting, body: dict[str, Any], words: list[str], calls: list[dict[str, Any]]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        base = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}

        async def send(delta: dict[str, Any], finish: str | None = None, more: Any = ()) -> None:
            choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
            if body.get("return_token_ids") and delta:
                choice["token_ids"] = [7]
            await response.write(b"data: " + json.dumps({**base, "choices": [choice], **dict(more)}).encode() + b"\n\n")

        gap = float(_setting(_prompt(body), "GAP", "0.001"))
        await send({"role": "assistant"}, more={"prompt_token_ids": [1, 2]} if body.get("return_token_ids") else {})
        if calls:
            for i, call in enumerate(calls):
                half = len(call["function"]["arguments"]) // 2
                start = {**call, "function": {**call["function"], "arguments": call["function"]["arguments"][:half]}}
                await send({"tool_calls": [{"index": i, **start}]})
                await send(
                    {"tool_calls": [{"index": i, "function": {"arguments": call["function"]["arguments"][half:]}}]}
                )
        else:
            for i, word in enumerate(words):
                if i == 2 and "CUT" in _prompt(body):
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                await send({"content": word if i == 0 else f" {word}"})
                await asyncio.sleep(gap)
        await send({}, "tool_calls" if calls else "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            last = {**base, "choices": [], "usage": _usage(words)}
            await response.write(b"data: " + json.dumps(last).encode() + b"\n\n")
        seen.ended = time.monotonic()
        await response.write(b"data: [DONE]\n\n")
        return response


def _prompt(body: dict[str, Any]) -> str:
    if "prompt" in body:
        return str(body["prompt"])
    content = next((m["content"] for m in reversed(body["messages"]) if m["role"] == "user"), "")
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _setting(prompt: str, name: str, default: str) -> str:
    found = re.search(rf"{name}=([0-9.]+)", prompt)
    return found[1] if found else default


def _tool_calls(body: dict[str, Any], prompt: str) -> list[dict[str, Any]]:
    answered = sum(message["role"] == "tool" for message in body.get("messages", ()))
    if not body.get("tools") or answered >= int(_setting(prompt, "TOOLS", "2")):
        return []
    function = body["tools"][0]["function"]
    name = next(iter(function["parameters"]["properties"]))
    return [
        {
            "id": f"call_{answered + i}",
            "type": "function",
            "function": {"name": function["name"], "arguments": json.dumps({name: str(answered + i)})},
        }
        for i in range(int(_setting(prompt, "PARALLEL", "1")))
    ]


def _usage(words: list[str]) -> dict[str, Any]:
    return {
        "prompt_tokens": 5,
        "completion_tokens": len(words),
        "total_tokens": 5 + len(words),
        "prompt_tokens_details": {"cached_tokens": 4},
    }


@contextmanager
def serving(witness: Witness) -> Iterator[Witness]:
    """Runs it in a thread of its own."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/models", witness.models)
        app.router.add_post("/v1/chat/completions", witness.chat)
        app.router.add_post("/v1/completions", witness.chat)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        witness.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield witness
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

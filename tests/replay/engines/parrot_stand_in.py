"""A stand-in for Parrot's ServeCore: its HTTP interface, and an engine that writes one word a token."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass
class Submitted:
    """A semantic call as it was submitted, and what became of it."""

    name: str
    body: dict[str, Any]
    sources: tuple[str, ...]
    """Variables that it waits for."""
    max_gen_length: int
    begin: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    prompt: str = ""
    text: str = ""
    began_s: float = 0.0
    ended_s: float = 0.0


class StandIn:
    """Answers with as many words as were asked for, and keeps what it saw with its own clock."""

    def __init__(self) -> None:
        self.calls: dict[str, Submitted] = {}
        """By the variable of their answer."""
        self.sessions: set[int] = set()
        self.opened = 0
        self.network_s = 0.0
        self.refuses: str | None = None
        """What it answers to a submitted call."""
        self.loses: str | None = None
        """The call at which its engine fails: Parrot gives the session up, and never answers."""
        self.hangs = False
        self._tasks: set[asyncio.Task[None]] = set()
        app = self.app = web.Application(middlewares=[self._errors])
        app.router.add_post("/v1/session", self._open)
        app.router.add_delete("/v1/session/{id}", self._close)
        app.router.add_post("/v1/semantic_call", self._submit)
        app.router.add_post("/v1/semantic_var", self._register)
        app.router.add_get("/v1/semantic_var/{id}", self._get)
        app.on_cleanup.append(self._end)

    @property
    def replayed(self) -> dict[str, Submitted]:
        """By call of the trace: those that were begun, without the ones by which a client tries a server."""
        return {c.name: c for c in self.calls.values() if c.begin.is_set() and c.name != "none"}

    @web.middleware
    async def _errors(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)  # type: ignore[no-any-return]
        except LookupError as error:
            return web.json_response({"error": f"ParrotError({error})", "traceback": ""}, status=500)

    async def _open(self, request: web.Request) -> web.Response:
        self.opened += 1
        self.sessions.add(self.opened)
        return web.json_response({"session_id": self.opened, "session_auth": "1"})

    async def _close(self, request: web.Request) -> web.Response:
        self.sessions.discard(int(request.match_info["id"]))
        return web.json_response({})

    async def _register(self, request: web.Request) -> web.Response:
        self._check(await request.json())
        return web.json_response({"var_id": "probe"})

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._check(body)
        await asyncio.sleep(self.network_s)
        if self.refuses is not None:
            raise LookupError(self.refuses)
        *inputs, output = body["parameters"]
        assert output["is_output"] and body["template"].endswith("{{" + output["name"] + "}}")
        assert body["model_type"] == "text"
        sources = tuple(p["var_id"] for p in inputs if "var_id" in p)
        name = request.headers.get("X-Request-Id", "none")
        call = Submitted(name, body, sources, output["sampling_config"]["max_gen_length"])
        variable = f"v{len(self.calls)}"
        self.calls[variable] = call
        task = asyncio.create_task(self._serve(call))
        self._tasks.add(task)
        if "output_criteria" in body:
            self._begin(variable)
        info = [{"name": p["name"], "is_output": False, "var_id": "in"} for p in inputs]
        info += [{"name": output["name"], "is_output": True, "var_id": variable}]
        return web.json_response({"request_id": 1, "param_info": info})

    async def _get(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._check(body)
        assert body["criteria"] in ("latency", "throughput")
        self._begin(request.match_info["id"])
        call = self.calls[request.match_info["id"]]
        await call.done.wait()
        return web.json_response({"content": call.text})

    async def _serve(self, call: Submitted) -> None:
        await call.begin.wait()
        for source in call.sources:
            await self.calls[source].done.wait()
        values = {p["name"]: p["value"] for p in call.body["parameters"] if "value" in p}
        values |= {p["name"]: self.calls[p["var_id"]].text for p in call.body["parameters"] if "var_id" in p}
        template = call.body["template"].removesuffix("{{answer}}")
        call.prompt = re.sub(r"{{(\w+)}}", lambda place: values[place[1]], template)
        call.began_s = monotonic()
        if self.hangs and call.name != "none":
            return
        if call.name == self.loses:
            self.sessions.discard(call.body["session_id"])
            return
        await asyncio.sleep(0.002)
        call.text = " ".join(["word"] * call.max_gen_length)
        call.ended_s = monotonic()
        call.done.set()

    def _begin(self, variable: str) -> None:
        if not self.calls[variable].begin.is_set():
            self.calls[variable].begin.set()
            for source in self.calls[variable].sources:
                self._begin(source)

    def _check(self, body: dict[str, Any]) -> None:
        if body["session_id"] not in self.sessions:
            raise LookupError(f"Session (session_id={body['session_id']}) not found.")

    async def _end(self, _: web.Application) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def served(stand_in: StandIn) -> AsyncIterator[str]:
    """The engine that names it."""
    async with TestServer(stand_in.app) as server:
        yield f"parrot:{server.make_url('/')}".rstrip("/")

"""The embedded engine as an OpenAI-compatible server, in wall time."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, TypeVar

import orjson
from aiohttp import web

from rejoule.replay.embedded.http_errors import BadRequestError, errors_as_json
from rejoule.replay.embedded.live import LiveEngine, Ticket
from rejoule.replay.embedded.metrics import prometheus_text
from rejoule.replay.embedded.protocol import Body, Call, Limits, chat_calls, completion_calls
from rejoule.replay.embedded.replies import DONE, Reply, last_usage, whole
from rejoule.replay.embedded.tokenizing import detokenized, tokenized
from rejoule.replay.sim.config import EngineConfig
from rejoule.replay.sim.engine import StepEngine
from rejoule.replay.sim.jobs import SimRequest
from rejoule.replay.sim.profile import profile_digest
from rejoule.replay.sim.shipped import worth_of
from rejoule.traces.errors import RejouleError

T = TypeVar("T")

MAX_BODY_BYTES = 64 << 20
LARGE_BODY_BYTES = 1 << 18
"""From here on a body is read in a thread, so that it does not keep the others waiting."""


class Server:
    """The endpoints, over one live engine."""

    def __init__(
        self,
        config: EngineConfig,
        model: str,
        *,
        any_model: bool = False,
        max_model_len: int | None = None,
        time_scale: float = 1.0,
    ) -> None:
        self.engine = StepEngine(config, keep_steps=False)
        room = self.engine.pool.capacity * self.engine.pool.block_size
        self.limits = Limits(
            model,
            min(room, max_model_len or config.profile.model.max_model_len),
            any_model,
            config.scheduling_policy == "priority",
            config.seed,
        )
        self._time_scale = time_scale
        self._profile_digest = profile_digest(config.profile)
        self._finished: Counter[str] = Counter()
        self._started = int(time.time())
        self._read = (0.0, 0.0)
        self._generated = 0
        self._live: LiveEngine

    def app(self) -> web.Application:
        """The aiohttp application; its engine runs while the application does."""
        app = web.Application(middlewares=[errors_as_json], client_max_size=MAX_BODY_BYTES)
        app.cleanup_ctx.append(self._run)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completion)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_post("/detokenize", self._detokenize)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/energy", self._energy)
        app.router.add_post("/reset_prefix_cache", self._reset)
        app.router.add_get("/health", self._alive)
        app.router.add_route("*", "/ping", self._alive)
        return app

    async def _run(self, app: web.Application) -> AsyncIterator[None]:
        self._live = LiveEngine(self.engine, self._time_scale)
        task = asyncio.create_task(self._live.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, await _understood(request, chat_calls, self.limits), True)

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, await _understood(request, completion_calls, self.limits), False)

    async def _serve(self, request: web.Request, calls: Sequence[Call], chat: bool) -> web.StreamResponse:
        name = request.headers.get("X-Request-Id") or uuid.uuid4().hex
        name, now = f"{'chatcmpl' if chat else 'cmpl'}-{name}", int(time.time())
        replies = [Reply(name, call, now, chat, index) for index, call in enumerate(calls)]
        tickets: list[Ticket] = []
        try:
            for reply in replies:
                tickets.append(self._submit(reply))  # noqa: PERF401  # all that are in are taken out again
            if calls[0].stream:
                return await self._stream(request, list(zip(replies, tickets, strict=True)))
            for ticket in tickets:
                while not ticket.done:
                    await ticket.more()
            body = whole(replies, [ticket.cached_tokens for ticket in tickets])
            return web.Response(body=body, content_type="application/json")
        finally:
            for reply, ticket in zip(replies, tickets, strict=False):
                self._live.abort(ticket)
                self._generated += ticket.tokens
                ended = "length" if reply.call.answer.finish_reason == "length" else "stop"
                self._finished[ended if ticket.done else "abort"] += 1

    def _submit(self, reply: Reply) -> Ticket:
        call, said = reply.call, reply.call.answer
        name = self._live.unused_id(reply.id)
        sim = SimRequest(name, call.prompt_ids, len(said.ids), said.ids, call.priority, call.cache_salt)
        try:
            return self._live.submit(sim, call.stream)
        except RejouleError as error:
            raise BadRequestError(str(error)) from error

    async def _stream(self, request: web.Request, speakers: Sequence[tuple[Reply, Ticket]]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)

        async def speak(reply: Reply, ticket: Ticket) -> None:
            sent = 0
            while not ticket.done:
                await ticket.more()
                await response.write(b"".join(reply.chunks(sent, ticket.tokens, ticket.cached_tokens)))
                sent = ticket.tokens

        try:
            if len(speakers) == 1:
                await speak(*speakers[0])
            else:
                async with asyncio.TaskGroup() as group:
                    for reply, ticket in speakers:
                        group.create_task(speak(reply, ticket))
            replies, cached = [reply for reply, _ in speakers], [ticket.cached_tokens for _, ticket in speakers]
            tail = last_usage(replies, cached) if replies[0].call.include_usage else b""
            await response.write(tail + DONE)
            await response.write_eof()
        except* ConnectionResetError:
            # The client is gone: nobody is left to tell.
            pass
        return response

    async def _models(self, request: web.Request) -> web.Response:
        return _json(
            {
                "object": "list",
                "data": [
                    {
                        "id": self.limits.model,
                        "object": "model",
                        "created": self._started,
                        "owned_by": "rejoule",
                        "root": self.limits.model,
                        "parent": None,
                        "max_model_len": self.limits.max_model_len,
                        "permission": [],
                    }
                ],
            }
        )

    async def _tokenize(self, request: web.Request) -> web.Response:
        return _json(await _understood(request, tokenized, self.limits))

    async def _detokenize(self, request: web.Request) -> web.Response:
        return _json(await _understood(request, detokenized, self.limits))

    async def _version(self, request: web.Request) -> web.Response:
        try:
            number = version("rejoule")
        except PackageNotFoundError:
            number = "0"
        return _json({"version": f"rejoule-{number}"})

    async def _metrics(self, request: web.Request) -> web.Response:
        text = prometheus_text(self.engine, self._generated, self._finished, self.limits.model)
        return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _energy(self, request: web.Request) -> web.Response:
        """Joules since the start, and the average power since this was last asked."""
        self._live.catch_up()
        before_s, before_j = self._read
        self._read = self.engine.now_s, self.engine.log.energy_j
        passed_s = self.engine.now_s - before_s
        power_w = (self.engine.log.energy_j - before_j) / passed_s if passed_s > 0 else None
        return _json(
            {
                "energy_j": self.engine.log.energy_j,
                "source": f"model:{self.engine.config.profile.name}",
                "profile_digest": self._profile_digest,
                **worth_of(self.engine.config.profile),
                "power_w": power_w,
                "time_s": self.engine.now_s,
            }
        )

    async def _reset(self, request: web.Request) -> web.Response:
        return _json({"success": self.engine.reset_prefix_cache()})

    async def _alive(self, request: web.Request) -> web.Response:
        return web.Response()


def make_app(config: EngineConfig, model: str, **options: Any) -> web.Application:
    """The server as an aiohttp application; ``options`` are those of ``Server``."""
    return Server(config, model, **options).app()


def serve(
    host: str,
    port: int,
    config: EngineConfig,
    model: str,
    *,
    on_start: Callable[[str], None] | None = None,
    **options: Any,
) -> None:
    """Serve until interrupted. ``on_start`` gets the base URL once the server listens; port 0 takes a free one."""

    async def run() -> None:
        runner, url = await _start(host, port, config, model, **options)
        try:
            if on_start is not None:
                on_start(url)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        pass
    except OSError as error:
        raise RejouleError(f"cannot listen on {host}:{port}: {error.strerror or error}", "take another port") from error


async def _start(host: str, port: int, config: EngineConfig, model: str, **options: Any) -> tuple[web.AppRunner, str]:
    # Cancelling handlers is what makes a disconnected client's request leave the engine.
    runner = web.AppRunner(
        make_app(config, model, **options), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    return runner, f"http://{host}:{runner.addresses[0][1]}"


class ServerThread:
    """A server in a thread of its own, on a free port: ``with ServerThread(config, "m") as url: ...``."""

    def __init__(self, config: EngineConfig, model: str, **options: Any) -> None:
        self._arguments = ("127.0.0.1", 0, config, model)
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, daemon=True, name="rejoule-server")
        self._runner: web.AppRunner
        self.url = ""

    def __enter__(self) -> str:
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(_start(*self._arguments, **self._options), self._loop)
        try:
            self._runner, self.url = starting.result()
        except BaseException:
            self._stop()
            raise
        return self.url

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._stop()

    def _work(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


async def _understood(request: web.Request, understand: Callable[[Body, Limits], T], limits: Limits) -> T:
    """What a body asks for. Raises BadRequestError for one that cannot be understood, whatever is wrong with it."""
    try:
        data = await request.read()
    except web.HTTPException:
        raise
    except Exception as error:
        raise BadRequestError(f"the body cannot be read: {' '.join(str(error).split())}") from error

    def work() -> T:
        try:
            return understand(_body(data), limits)
        except BadRequestError:
            raise
        except Exception as error:
            # A field of a type or a value that no part of it has foreseen.
            raise BadRequestError(f"the request cannot be understood: {type(error).__name__}: {error}") from error

    return await asyncio.to_thread(work) if len(data) > LARGE_BODY_BYTES else work()


def _body(data: bytes) -> Body:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        message = f"[{{'type': 'json_invalid', 'loc': ('body', {error.pos}), 'msg': 'JSON decode error: {error.msg}'}}]"
        raise BadRequestError(message) from error
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    return body


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")

"""Replay on a server at a URL: a real HTTP server, well behaved and not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rejoule.replay.engines.http import api_url
from rejoule.replay.engines.open import check_engine, open_engine
from rejoule.replay.replay import replay
from rejoule.traces import RejouleError, Trace
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.store import trace_digest
from rejoule.traces.testing import random_trace

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeServer:
    """Streams as many tokens as it is asked for, and keeps what it saw with its own clock."""

    def __init__(self, owned_by: str = "vllm") -> None:
        self.owned_by = owned_by
        self.bodies: list[dict[str, Any]] = []
        self.seen: list[tuple[float, float]] = []
        self.misbehave: Callable[[int, web.Request], Awaitable[web.StreamResponse | None]] | None = None
        self.tokens_less = 0
        self.app = web.Application()
        self.app.router.add_get("/v1/models", self.models)
        self.app.router.add_post("/v1/chat/completions", self.chat)

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "fake", "owned_by": self.owned_by}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        began, body = monotonic(), await request.json()
        self.bodies.append(body)
        if self.misbehave and (answer := await self.misbehave(len(self.bodies), request)) is not None:
            return answer
        response = web.StreamResponse()
        await response.prepare(request)
        tokens = body["max_tokens"] - self.tokens_less
        for i in range(tokens):
            finish = "length" if i == tokens - 1 else None
            await send(response, {"choices": [{"index": 0, "delta": {"content": " a"}, "finish_reason": finish}]})
        prompt = len(body["messages"][0]["content"])
        await send(response, {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": tokens}})
        await response.write(b"data: [DONE]\n\n")
        self.seen.append((began, monotonic()))
        return response


async def send(response: web.StreamResponse, event: dict[str, Any]) -> None:
    await response.write(b"data: " + orjson.dumps(event) + b"\n\n")


@asynccontextmanager
async def served(fake: FakeServer) -> AsyncIterator[str]:
    async with TestServer(fake.app) as server:
        yield str(server.make_url("/v1"))


async def replayed(trace: Trace, url: str, **knobs: Any) -> Run:
    plan = PlannedRun("r", "t", Configuration(engine=url, **knobs), 0)
    return await replay(trace, plan, trace_digest(trace), open_engine)


async def test_same_calls_in_order() -> None:
    """Every call of the trace is sent once, after what it waits for, with the recorded number of output tokens."""
    trace, fake = random_trace(4, workflows=5), FakeServer()
    async with served(fake) as url:
        run = await replayed(trace, url)
    recorded = {c.id: c for c in trace.calls}
    assert {c.id: c.output_tokens for c in run.calls} == {c.id: c.output_tokens for c in recorded.values()}
    assert Counter(b["max_tokens"] for b in fake.bodies) == Counter(c.output_tokens for c in recorded.values())
    assert all(b["min_tokens"] == b["max_tokens"] and b["ignore_eos"] and b["model"] == "fake" for b in fake.bodies)
    sent = {c.id: c.sent_s for c in run.calls} | {t.id: t.start_s for t in run.tools}
    ended = {c.id: c.end_s for c in run.calls} | {t.id: t.end_s for t in run.tools}
    for workflow in trace.workflows:
        for target, sources in workflow.predecessors("barrier").items():
            assert all(ended[s] <= sent[target] for s in sources)
    assert run.certificate.tier == "lengths"


async def test_twice_is_the_same_work() -> None:
    """Two replays of one trace have equal certificates."""
    trace, fake = random_trace(4), FakeServer()
    async with served(fake) as url:
        runs = [await replayed(trace, url, arrivals="burst") for _ in range(2)]
    assert runs[0].certificate == runs[1].certificate


async def test_no_energy_is_none() -> None:
    """Joules that nobody measured are None, with no source."""
    trace, fake = random_trace(4, workflows=1), FakeServer()
    async with served(fake) as url:
        run = await replayed(trace, url)
    assert run.energy.gpu_j is None and not run.energy.source and run.steps is None


async def test_foreign_server() -> None:
    """A server that is not vLLM is sent no option that it may refuse."""
    trace, fake = random_trace(4, workflows=1), FakeServer(owned_by="openai")
    async with served(fake) as url:
        await replayed(trace, url)
    assert all("ignore_eos" not in body for body in fake.bodies)


async def test_in_flight_limit() -> None:
    """No more calls are in flight than allowed, those of one workflow included."""
    trace, fake, most, now = random_trace(4, workflows=8), FakeServer(), [0], [0]

    async def count(_: int, request: web.Request) -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])
        await asyncio.sleep(0.005)
        now[0] -= 1

    fake.misbehave = count
    async with served(fake) as url:
        await replayed(trace, url, arrivals="burst", concurrency=2)
    assert most[0] == 2


async def test_short_answers_are_marked() -> None:
    """A server that answers with another length than asked for is named in the certificate."""
    trace, fake = random_trace(4, workflows=1), FakeServer()
    fake.tokens_less = 1
    async with served(fake) as url:
        run = await replayed(trace, url)
    assert run.certificate.exact_calls < len(run.calls) and "other work" in run.certificate.violations[0]


async def error_500(number: int, _: web.Request) -> web.StreamResponse | None:
    return web.json_response({"error": {"message": "boom"}}, status=500) if number == 2 else None


async def cut(number: int, request: web.Request) -> web.StreamResponse | None:
    if number != 2:
        return None
    response = web.StreamResponse()
    await response.prepare(request)
    await send(response, {"choices": [{"index": 0, "delta": {"content": " a"}, "finish_reason": None}]})
    assert request.transport is not None
    request.transport.abort()
    return response


async def garbage(number: int, request: web.Request) -> web.StreamResponse | None:
    if number != 2:
        return None
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"data: {nonsense\n\n")
    return response


async def unfinished(number: int, request: web.Request) -> web.StreamResponse | None:
    if number != 2:
        return None
    response = web.StreamResponse()
    await response.prepare(request)
    await send(response, {"choices": [{"index": 0, "delta": {"content": " a"}, "finish_reason": None}]})
    return response


@pytest.mark.parametrize("fault", [error_500, cut, garbage, unfinished])
async def test_failed_call(fault: Callable[[int, web.Request], Awaitable[web.StreamResponse | None]]) -> None:
    """A call that fails is named, its dependants are not sent, and the others are unharmed."""
    trace, fake = random_trace(4, workflows=5), FakeServer()
    fake.misbehave = fault
    async with served(fake) as url:
        run = await replayed(trace, url, concurrency=1, arrivals="burst")
    assert len(run.failed_calls) == 1
    unsent = {c.id for c in trace.calls} - {c.id for c in run.calls}
    assert sum(w.complete for w in run.workflows) == len(trace.workflows) - 1
    assert [v for v in run.certificate.violations if "failed" in v]
    assert {v.split()[0] for v in run.certificate.violations if v.endswith("was not sent")} >= unsent


async def test_dying_server() -> None:
    """A server that dies ends the replay with one clear error."""
    trace, fake = random_trace(4, workflows=5), FakeServer()
    server = TestServer(fake.app)
    await server.start_server()

    async def die(number: int, request: web.Request) -> None:
        if number == 3:
            assert server.runner is not None
            for site in list(server.runner.sites):
                await site.stop()
            assert request.transport is not None
            request.transport.abort()

    fake.misbehave = die
    with pytest.raises(RejouleError, match="stopped answering"):
        await replayed(trace, str(server.make_url("/v1")), arrivals="burst", concurrency=1)
    await server.close()


async def test_unreachable_server() -> None:
    """A server that cannot be reached is named, with what to check."""
    with pytest.raises(RejouleError, match=r"cannot reach a server at http://127.0.0.1:9/v1.*curl"):
        await replayed(random_trace(4), "http://127.0.0.1:9")


async def test_server_of_another_kind() -> None:
    """A server that does not speak OpenAI's interface is called that."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/v1/models", hello)
    async with TestServer(app) as server:
        with pytest.raises(RejouleError, match="lists no models"):
            await replayed(random_trace(4), str(server.make_url("/v1")))


@pytest.mark.parametrize(
    "knobs", [{"max_num_seqs": 4}, {"power_cap_w": 300.0}, {"sm_clock_mhz": 900.0}, {"profile": "x"}]
)
def test_refused_knobs(knobs: dict[str, Any]) -> None:
    """A knob that a running server does not have is refused before anything is sent."""
    with pytest.raises(RejouleError, match=r"can(not)? be set"):
        check_engine(Configuration(engine="http://127.0.0.1:8000", **knobs))


def test_url() -> None:
    """The root of the API is found from a URL with and without its version."""
    assert api_url("http://a:1") == api_url("http://a:1/") == api_url("http://a:1/v1/") == "http://a:1/v1"
    with pytest.raises(RejouleError, match="sim, or a server's URL"):
        api_url("localhost")


@pytest.mark.parametrize("url", ["http://user:CANARY@a:1/v1", "http://a:1/v1?key=CANARY", "http://a:1/v1#CANARY"])
def test_a_url_that_holds_a_key_is_refused(url: str) -> None:
    """Run folders name the server, and are passed on: a URL may hold nothing but an address."""
    with pytest.raises(RejouleError, match="give --engine http://a:1/v1") as refused:
        check_engine(Configuration(engine=url))
    assert "CANARY" not in str(refused.value)


async def test_a_key_that_a_server_repeats_is_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that quotes the key is kept without it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARYkey123")
    trace, fake = random_trace(4, workflows=2), FakeServer()

    async def refuse(_: int, request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"bad key {request.headers['Authorization']}"}}, status=401)

    fake.misbehave = refuse
    async with served(fake) as url:
        run = await replayed(trace, url)
    assert run.failed_calls[0].error == "HTTP 401: bad key Bearer [key]"


async def test_counts_beyond_reason_fail_the_call_alone() -> None:
    """Usage that no answer can have is an error of that call, and the run is kept."""
    trace, fake = random_trace(4, workflows=3), FakeServer()

    async def boast(number: int, request: web.Request) -> web.StreamResponse | None:
        if number != 2:
            return None
        response = web.StreamResponse()
        await response.prepare(request)
        usage = b'{"prompt_tokens":%d,"completion_tokens":1}' % (10**30)
        await response.write(
            b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"length"}],"usage":%b}' % usage
        )
        await response.write(b"\n\ndata: [DONE]\n\n")
        return response

    fake.misbehave = boast
    async with served(fake) as url:
        run = await replayed(trace, url, concurrency=1, arrivals="burst")
    assert len(run.failed_calls) == 1


async def test_own_cost() -> None:
    """A run says what its client cost and how late it sent, and waiting for a place is not counted as lateness."""
    trace, fake = random_trace(4, workflows=3), FakeServer()
    async with served(fake) as url:
        run = await replayed(trace, url, arrivals="burst", concurrency=1)
    late = run.engine["client_lateness_s"]
    assert 0 <= late["p50"] <= late["p99"] <= late["max"] < run.makespan_s
    assert run.engine["client_cpu_s"] > 0 and run.engine["client_retries"] == 0


async def test_stalled_call() -> None:
    """A call that gets no token in the time that the options allow fails, and the others are unharmed."""
    trace, fake = random_trace(4, workflows=5), FakeServer()

    async def stall(number: int, _: web.Request) -> web.StreamResponse | None:
        if number == 2:
            await asyncio.sleep(30)
        return None

    fake.misbehave = stall
    async with served(fake) as url:
        run = await replayed(trace, url, arrivals="burst", concurrency=1, options={"first_token_timeout_s": 0.3})
    assert [c.error for c in run.failed_calls] == ["stalled: no token came within 0.3 s"]
    assert sum(w.complete for w in run.workflows) == len(trace.workflows) - 1

"""Calls that cannot be replayed like all others, on a server at a URL: sent otherwise, or named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rejoule.replay.engines.open import open_engine
from rejoule.replay.replay import replay
from rejoule.traces import RejouleError, Trace
from rejoule.traces.model import Call, Edge, Header, Task, Workflow
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.work import sentences

Refusal = Callable[[dict[str, Any]], str | None]


class OddServer:
    """Answers with as many tokens as it is asked for, whole or streamed, unless it refuses."""

    def __init__(self, refuses: Refusal = lambda body: None, models: tuple[str, ...] = ("m",)) -> None:
        self.bodies: list[dict[str, Any]] = []
        self._refuses, self._models = refuses, models

    @asynccontextmanager
    async def up(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/chat/completions", self._chat)
        async with TestServer(app) as server:
            yield str(server.make_url("/v1"))

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name, "owned_by": "vllm"} for name in self._models]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if (why := self._refuses(body)) is not None:
            return web.json_response({"error": {"message": why}}, status=400)
        self.bodies.append(body)
        tokens = body["max_tokens"]
        usage = {"prompt_tokens": 9, "completion_tokens": tokens}
        if not body.get("stream"):
            choice = {"index": 0, "message": {"content": " a" * tokens}, "finish_reason": "length"}
            return web.json_response({"choices": [choice], "usage": usage})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        choice = {"index": 0, "delta": {"content": " a" * tokens}, "finish_reason": "length"}
        for event in ({"choices": [choice]}, {"choices": [], "usage": usage}):
            await response.write(b"data: " + orjson.dumps(event) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response


def chain(*changes: dict[str, Any]) -> Trace:
    """A workflow of calls one after another, each a second after the one before, with these fields."""
    tasks, calls = [], []
    for i, fields in enumerate(changes):
        asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields.pop("request", {})}
        start = i * 1_000_000
        tasks.append(Task(f"w0/n{i}", "w0", "node", "", i, start, start + 900_000))
        plain = Call(
            f"w0/c{i}", "w0", f"w0/n{i}", "node", "chat", asked, start, start + 900_000,
            status=200, text="a a", finish_reason="stop", prompt_tokens=9, output_tokens=5,
        )  # fmt: skip
        calls.append(replace(plain, **fields))
    edges = tuple(Edge(a.id, b.id, "barrier") for a, b in pairwise(calls))
    flow = Workflow("w0", "g", 0, len(changes) * 1_000_000, tasks=tuple(tasks), calls=tuple(calls), edges=edges)
    return Trace(Header("g", "m"), (flow,))


async def replayed(trace: Trace, server: OddServer, **options: Any) -> Run:
    async with server.up() as url:
        configuration = Configuration(engine=url, options={"warm_up": False, "idle_s": 0, **options})
        return await replay(trace, PlannedRun("r", "t", configuration, 0), "", open_engine)


async def test_what_a_server_answers_only_whole_is_asked_for_whole() -> None:
    """Log probabilities of the prompt cannot be streamed: the call does its work, and all the others theirs."""
    server = OddServer(lambda body: "no streaming" if body.get("prompt_logprobs") and body.get("stream") else None)
    run = await replayed(chain({}, {"request": {"prompt_logprobs": 1}}, {}), server)
    assert [call.exact for call in run.calls] == [True, True, True]
    assert [call.first_token_s is None for call in run.calls] == [False, True, False]
    assert [body["stream"] for body in server.bodies] == [True, False, True]
    assert server.bodies[1]["prompt_logprobs"] == 1


async def test_a_refused_stream_is_asked_for_whole() -> None:
    """A server that will not stream a request, for whatever reason, may still answer it."""
    server = OddServer(lambda body: "no" if body.get("odd") and body["stream"] else None)
    run = await replayed(chain({}, {"request": {"odd": True}}, {}), server)
    assert [call.error for call in run.calls] == [None, None, None]


async def test_what_a_server_refuses_is_named_and_the_rest_is_sent() -> None:
    """A call that this server will never do is left out by name; the calls after it are done."""
    server = OddServer(lambda body: "never" if body.get("odd") else None)
    run = await replayed(chain({}, {"request": {"odd": True}}, {}), server)
    assert len(server.bodies) == 2 and run.calls[1].refused
    work = run.certificate.work
    assert work is not None and work.replayed.calls == 2
    assert [named.reason for named in work.left_out] == ["refused by the server of the replay"]
    assert run.certificate.exact_calls == 2 and any("never" in v for v in run.certificate.violations)


async def test_an_answer_that_was_let_go_is_done_as_far_as_it_had_come() -> None:
    """The server had worked until the client let go: the replay does that much, and does not call it exact."""
    cut = {"error": "the client closed the stream before its end", "output_tokens": 2, "finish_reason": None}
    server = OddServer()
    run = await replayed(chain({}, cut, {}), server)
    assert [body["max_tokens"] for body in server.bodies] == [5, 2, 5]
    assert [call.exact for call in run.calls] == [True, None, True]
    assert run.certificate.work is not None
    assert any("let go" in sentence for sentence in sentences(run.certificate.work))


async def test_a_guessed_length_is_never_exact() -> None:
    """Where the recorded server counted nothing, the pieces of the answer stand in, and it is said."""
    server = OddServer()
    run = await replayed(chain({"output_tokens": None, "pieces": 41}, {"output_tokens": None}), server)
    assert [body["max_tokens"] for body in server.bodies] == [41, 3]
    assert run.certificate.exact_calls == 0
    assert run.certificate.work is not None and run.certificate.work.altered[0].amount.calls == 2


async def test_each_call_asks_for_its_own_model() -> None:
    """On a server with several models, as with LoRA, a call is answered by the one that it was recorded from."""
    server = OddServer(models=("small", "big"))
    trace = chain({"request": {"model": "small"}}, {"request": {"model": "big"}})
    run = await replayed(trace, server)
    assert [body["model"] for body in server.bodies] == ["small", "big"]
    assert run.certificate.exact_calls == 2


async def test_one_model_answers_for_several_only_if_asked_to() -> None:
    """Calls of a model that the server lacks are refused before anything is sent, or said to be answered by another."""
    trace = chain({"request": {"model": "small"}}, {"request": {"model": "big"}})
    with pytest.raises(RejouleError, match=r"big.*one_model=true"):
        await replayed(trace, server := OddServer(models=("small",)))
    assert server.bodies == []
    run = await replayed(trace, OddServer(models=("small",)), one_model=True)
    assert [call.altered for call in run.calls] == [(), ("answered by small, recorded from big",)]
    assert run.certificate.exact_calls == 1


async def test_any_model_may_answer_for_one() -> None:
    """A trace of one model is replayed on another, as ever."""
    run = await replayed(chain({}, {}), OddServer(models=("other",)))
    assert run.certificate.exact_calls == 2


async def test_the_simulated_engine_keeps_the_law_too() -> None:
    """On the simulated engine several models, guesses and calls let go are treated alike."""
    cut = {"error": "cut", "output_tokens": 2}
    trace = chain({}, cut, {"output_tokens": None}, {"status": 500, "error": "x", "output_tokens": None})
    run = await replay(trace, PlannedRun("r", "t", Configuration(), 0), "", open_engine)
    assert [(call.output_tokens, call.exact) for call in run.calls] == [(5, True), (2, None), (3, None)]
    assert run.certificate.tier == "lengths"
    assert run.certificate.work is not None and [n.reason for n in run.certificate.work.left_out] == [
        "refused by the server"
    ]
    several = chain({"request": {"model": "small"}}, {"request": {"model": "big"}})
    with pytest.raises(RejouleError, match="one_model"):
        await replay(several, PlannedRun("r", "t", Configuration(), 0), "", open_engine)

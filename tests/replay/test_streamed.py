"""Replays in which calls and tools begin on part of an answer, on every kind of engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from rejoule.replay.engines.open import open_engine
from rejoule.replay.engines.sim import DEFAULT_PROFILE
from rejoule.replay.replay import replay
from rejoule.replay.sim.shipped import load_profile
from rejoule.traces import Trace
from rejoule.traces.model import Call, ToolCall
from rejoule.traces.run import Configuration, Run, Step
from rejoule.traces.runs import PlannedRun
from rejoule.traces.store import trace_digest
from rejoule.traces.testing import MS, made_call, made_tool, made_trace, made_workflow

from .engines.test_http import send

BETWEEN_S = 0.01
TOKENS = 40


def trace(tokens: int = 10) -> Trace:
    """``a`` answers for 400 ms. ``b`` and the tool ``t`` began 5 and 20 ms after so many tokens, ``c`` after both."""
    first = replace(
        made_call("w0000", "a", 0, 10 * TOKENS, output_tokens=TOKENS),
        first_token_ns=10 * MS,
        chunk_ns=tuple(range(10 * MS, 10 * (TOKENS + 1) * MS, 10 * MS)),
    )
    vertices: list[Call | ToolCall] = [
        first,
        made_call("w0000", "b", 10 * tokens + 5, 200, output_tokens=4),
        made_tool("w0000", "t", 10 * tokens + 20, 10 * tokens + 50),
        made_call("w0000", "c", 410, 500),
    ]
    streamed = [("a", "b", tokens), ("a", "t", tokens)]
    return made_trace([made_workflow(vertices, {"observed": [("a", "c"), ("b", "c")]}, streamed=streamed)])


def ran(recorded: Trace, **knobs: Any) -> Run:
    plan = PlannedRun("r", "t", Configuration(**knobs), 0)
    return asyncio.run(replay(recorded, plan, trace_digest(recorded), open_engine))


def started(run: Run) -> dict[str, float]:
    return {c.id[-1]: c.sent_s for c in run.calls} | {t.id[-1]: t.start_s for t in run.tools}


def told_s(step: Step, run: Run) -> float:
    """When the clients have what a step of the simulated engine put out. All prompts are of one step."""
    timing = load_profile(DEFAULT_PROFILE).timing
    prompts = {c.id: c.prompt_tokens or 0 for c in run.calls}
    echoed = sum(prompts[name] for name, _, _ in step.prefill)
    outputs = len(step.decode) + len(step.prefill)
    late_s = timing.api_per_output_s * outputs + timing.api_per_echoed_token_s * echoed
    return step.end_s + timing.api_answer_s + late_s


@pytest.mark.parametrize("tokens", [1, 2, 10, 39, 40])
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("ahead", [True, False])
def test_simulated(tokens: int, scale: float, ahead: bool) -> None:
    """In virtual time a call goes out exactly its gap after the client has the token that it began on."""
    run = ran(trace(tokens), output_scale=scale, options={"async_scheduling": ahead})
    calls = {c.id[-1]: c for c in run.calls}
    at = started(run)
    there_s = at["b"] - 0.005
    assert at["t"] == pytest.approx(there_s + 0.020)
    steps = [s for s in run.steps or () if calls["a"].id in dict(s.decode)]
    done = [1, *(sum(s.steps for s in steps[: i + 1]) + 1 for i in range(len(steps)))]
    there = [calls["a"].first_token_s, *(told_s(s, run) for s in steps)]
    assert there_s == pytest.approx(there[done.index(round(tokens * scale))])
    assert at["c"] >= calls["a"].end_s
    assert run == ran(trace(tokens), output_scale=scale, options={"async_scheduling": ahead})


class Server:
    """Sends a token every 10 ms, several in an event or none with text, and says their ids if it has them."""

    def __init__(self, owned_by: str, in_one: int = 1, tokens: int | None = None) -> None:
        self.owned_by, self.in_one, self.tokens = owned_by, in_one, tokens
        self.cut_after: int | None = None
        self.asked: list[dict[str, Any]] = []
        self.asked_at: list[float] = []
        self.sent_at: list[float] = []
        """When so many tokens of ``a`` had gone out."""
        self.app = web.Application()
        self.app.router.add_get("/v1/models", self.models)
        self.app.router.add_post("/v1/chat/completions", self.chat)

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "fake", "owned_by": self.owned_by}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.asked_at.append(monotonic())
        response = web.StreamResponse()
        await response.prepare(request)
        tokens = self.tokens or body["max_tokens"]
        for at in range(0, tokens, self.in_one):
            await asyncio.sleep(BETWEEN_S * self.in_one)
            if at == self.cut_after:
                assert request.transport is not None
                request.transport.abort()
                return response
            ids = list(range(at, min(tokens, at + self.in_one)))
            if body["max_tokens"] == TOKENS:
                self.sent_at += [monotonic()] * len(ids)
            choice: dict[str, Any] = {"index": 0, "delta": {"content": "" if self.in_one > 1 and at else "a"}}
            if body.get("return_token_ids"):
                choice["token_ids"] = ids
            await send(response, {"choices": [choice | {"finish_reason": "length" if at + 1 >= tokens else None}]})
        await send(response, {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
        await send(response, {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": tokens}})
        await response.write(b"data: [DONE]\n\n")
        return response


async def ran_on(server: Server, recorded: Trace, **knobs: Any) -> Run:
    async with TestServer(server.app) as served:
        plan = PlannedRun("r", "t", Configuration(engine=str(served.make_url("/v1")), **knobs), 0)
        return await replay(recorded, plan, trace_digest(recorded), open_engine)


@pytest.mark.parametrize(("owned_by", "in_one"), [("vllm", 1), ("vllm", 5), ("someone", 1)])
async def test_over_http(owned_by: str, in_one: int) -> None:
    """On a server a call goes out its gap after the piece with the token it began on, as its ids say or its pieces."""
    server = Server(owned_by, in_one)
    run = await ran_on(server, trace())
    (a,) = [c for c in run.calls if c.id.endswith("a")]
    at = started(run)
    # A busy machine is late, never early.
    assert 0.005 <= server.asked_at[1] - server.sent_at[9] < 0.1
    assert at["t"] - at["b"] == pytest.approx(0.015, abs=0.01)
    assert at["c"] >= a.end_s
    # Only where somebody waits for a token is the server asked for ids.
    assert [bool(body.get("return_token_ids")) for body in server.asked] == [owned_by == "vllm", False, False]


async def test_a_shorter_answer_lets_go_at_its_end() -> None:
    """A server that answers less than the part that was waited for lets go by its end."""
    run = await ran_on(Server("someone", tokens=5), trace())
    (a,) = [c for c in run.calls if c.id.endswith("a")]
    assert 0 <= started(run)["b"] - a.end_s - 0.005 < 0.03


@pytest.mark.parametrize(("cut_after", "sent"), [(3, 1), (20, 2)])
async def test_an_answer_that_is_cut(cut_after: int, sent: int) -> None:
    """A stream that is cut before the part is there keeps what waits for it from being sent; the run says so."""
    server = Server("someone")
    server.cut_after = cut_after
    run = await ran_on(server, trace())
    assert len(run.calls) == sent
    assert ("w0000/b was not sent" in run.certificate.violations) == (sent == 1)
    assert "w0000/c was not sent" in run.certificate.violations


def test_a_certificate_knows_on_how_much_of_an_answer_a_call_began() -> None:
    """Replays in which a call waits for more or less of an answer are in another order."""
    orders = {tokens: ran(trace(tokens)).certificate.order for tokens in (5, 10)}
    assert orders[5] != orders[10] and orders[5] == ran(trace(5)).certificate.order


def test_loops_keep_their_streams() -> None:
    """Every pass of a run lets go at the same token."""
    run = ran(trace(), loops=3)
    sent = {c.id: c.sent_s for c in run.calls}
    gaps = [sent[f"w0000/b{mark}"] - sent[f"w0000/a{mark}"] for mark in ("", "~2", "~3")]
    assert all(a == pytest.approx(b) for a, b in pairwise(gaps))

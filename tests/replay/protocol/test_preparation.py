"""What is done around a run on a real server: warm-up and idle power."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from rejoule.replay.check import check_configuration
from rejoule.replay.engine import Engine, PowerBetween, RealServer
from rejoule.replay.engines.http import HttpEngine
from rejoule.replay.engines.open import open_engine
from rejoule.replay.protocol.agreement import agree
from rejoule.replay.protocol.idle import settled_idle_w
from rejoule.replay.protocol.preparation import OpenEngine, Preparation
from rejoule.replay.protocol.warm_up import WarmUp, settled
from rejoule.replay.replay import replay
from rejoule.traces import RejouleError, Trace
from rejoule.traces.run import Configuration, Run
from rejoule.traces.runs import PlannedRun
from rejoule.traces.testing import random_trace

TRACE = random_trace(2, workflows=2, vertices=4)
CALLS = len(list(TRACE.calls))


class Served:
    """A server that answers at once, and keeps the salts that it was sent."""

    def __init__(self, owned_by: str = "vllm") -> None:
        self.owned_by = owned_by
        self.salts: list[str | None] = []

    @asynccontextmanager
    async def url(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        async with TestServer(app) as server:
            yield str(server.make_url("/v1"))

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m", "owned_by": self.owned_by}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.salts.append(body.get("cache_salt"))
        response = web.StreamResponse()
        await response.prepare(request)
        tokens = body["max_tokens"]
        choice = {"index": 0, "delta": {"content": " a" * tokens}, "finish_reason": "length"}
        await response.write(b"data: " + orjson.dumps({"choices": [choice]}) + b"\n\n")
        usage = {"prompt_tokens": 1, "completion_tokens": tokens}
        await response.write(b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\ndata: [DONE]\n\n")
        return response


def with_power(watts: PowerBetween, bare_w: float | None = None) -> OpenEngine:
    """Engines whose GPUs draw what ``watts`` says."""

    class Watched(HttpEngine):
        @property
        def real_server(self) -> RealServer | None:
            found = super().real_server
            return None if found is None else replace(found, power_w=watts, bare_w=bare_w)

    async def opened(configuration: Configuration, trace: Trace) -> Engine:
        return await Watched.connect(configuration, trace)

    return opened


async def ran(
    preparation: Preparation, url: str, opener: OpenEngine = open_engine, name: str = "r", **options: Any
) -> Run:
    configuration = Configuration(engine=url, time_scale=0, options={"warm_up_s": 0.3, "idle_s": 0.03, **options})
    return await replay(TRACE, PlannedRun(name, "t", configuration, 0), "", opener, preparation=preparation)


async def test_a_server_is_warmed_up_once() -> None:
    """Before the first run on a server the trace is gone through; before the next it is not."""
    served, preparation = Served(), Preparation()
    async with served.url() as url:
        first = await ran(preparation, url)
        sent = len(served.salts)
        second = await ran(preparation, url)
    assert first.conditions is not None and first.conditions.warm_ups
    assert sent >= 2 * CALLS
    assert len(served.salts) - sent == CALLS
    assert second.conditions is not None and second.conditions.warm_ups == 0


async def test_warm_up_leaves_the_cache_cold() -> None:
    """No pass of the warm-up shares the prefix cache with another, or with the run."""
    served = Served()
    async with served.url() as url:
        await ran(Preparation(), url)
    assert None not in served.salts
    assert not set(served.salts[-CALLS:]) & set(served.salts[:-CALLS])
    counts = [served.salts.count(salt) for salt in set(served.salts)]
    assert max(counts) == CALLS


@pytest.mark.parametrize(("owned_by", "options"), [("vllm", {"warm_up": False}), ("openai", {})])
async def test_no_warm_up(owned_by: str, options: dict[str, Any]) -> None:
    """None if it is not wanted, or if the server could not keep its cache apart from the run's."""
    served = Served(owned_by)
    async with served.url() as url:
        run = await ran(Preparation(), url, **options)
    assert len(served.salts) == CALLS
    assert run.conditions is not None and run.conditions.warm_ups == 0


async def test_idle_power_before_and_after() -> None:
    """Bare, loaded and after are told with the run; the loaded baseline is taken once for a server and a cap."""
    asked = 0

    async def watts(_: float, __: float) -> float | None:
        nonlocal asked
        asked += 1
        return 125.0

    served, preparation, opener = Served(), Preparation(), with_power(watts, bare_w=79.0)
    async with served.url() as url:
        first = await ran(preparation, url, opener, warm_up=False)
        counts = [asked]
        second = await ran(preparation, url, opener, warm_up=False)
    for run in (first, second):
        assert run.conditions is not None
        assert (run.conditions.bare_w, run.conditions.loaded_w, run.conditions.after_w) == (79.0, 125.0, 125.0)
    assert asked - counts[0] == 1


async def test_nothing_is_asked_of_power_if_baselines_are_off() -> None:
    async def watts(_: float, __: float) -> float | None:
        raise AssertionError("asked")

    async with Served().url() as url:
        run = await ran(Preparation(), url, with_power(watts), warm_up=False, idle_s=0)
    assert run.conditions is not None and run.conditions.loaded_w is None


async def test_virtual_time_needs_no_preparation() -> None:
    plan = PlannedRun("r", "t", Configuration(), 0)
    assert await replay(TRACE, plan, "", open_engine, preparation=Preparation()) == await replay(
        TRACE, plan, "", open_engine
    )


async def test_idle_power_is_waited_for() -> None:
    """After load, idle power is what it falls to, not the mean of the fall."""
    start = asyncio.get_running_loop().time()

    async def falling(begin_s: float, end_s: float) -> float | None:
        middle = (begin_s + end_s) / 2 - start
        return 100.0 + 400.0 * 2 ** (-middle / 0.01)

    found = await settled_idle_w(falling, 0.09)
    assert found == pytest.approx(100.0, rel=0.05)


async def test_idle_power_that_never_settles_is_taken_as_it_is() -> None:
    async def drifting(begin_s: float, end_s: float) -> float | None:
        return (begin_s + end_s) * 1e3

    assert await settled_idle_w(drifting, 0.02) is not None


@given(st.lists(st.floats(50, 700), min_size=3, max_size=6))
def test_agreement(values: list[float]) -> None:
    """Three values agree exactly if they span at most 2 % of their mean; earlier ones do not matter."""
    last = values[-3:]
    assert agree(values) == (max(last) - min(last) <= 0.02 * sum(last) / 3)
    assert not agree([*values, None])
    assert not agree(last[:2])


def test_warm_means_equal_time_and_power() -> None:
    same = [WarmUp(2.0, 500.0)] * 3
    assert settled(same)
    assert settled([WarmUp(2.0, None)] * 3)
    assert not settled(same[:2])
    assert not settled([*same[:2], WarmUp(2.1, 500.0)])
    assert not settled([*same[:2], WarmUp(2.0, 520.0)])
    assert not settled([*same[:2], WarmUp(2.0, None)])


@pytest.mark.parametrize("options", [{"warm_up": 1}, {"warm_up_s": -1}, {"idle_s": "long"}, {"idle_s": True}])
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(RejouleError, match=next(iter(options))):
        check_configuration(Configuration(engine="http://127.0.0.1:1/v1", options=options))

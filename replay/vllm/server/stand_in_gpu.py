"""Lets the stand-in for vLLM draw power from the stand-in for NVML, and keep to its power limit and clock lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from typing import Final

from aiohttp import web

from rejoule.replay.embedded.server import Server
from rejoule.replay.energy.fake import FakeNvml
from rejoule.replay.sim.latency import LatencyModel
from rejoule.replay.sim.power import PowerModel

PERIOD_S: Final = 0.01


def attach(app: web.Application, server: Server, path: str) -> None:
    """The engine of ``server`` drives GPU 0 of the stand-in at ``path`` for as long as the application runs."""

    async def driving(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_drive(server, FakeNvml(path)))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app.cleanup_ctx.append(driving)


async def _drive(server: Server, fake: FakeNvml) -> None:
    engine, profile = server.engine, server.engine.config.profile
    latency = LatencyModel(profile)
    kept: tuple[float, int | None] | None = None
    before_s, before_j, before_bound_s = monotonic(), engine.log.energy_j, engine.log.bound_s
    while True:
        await asyncio.sleep(PERIOD_S)
        server._live.catch_up()
        now_s = monotonic()
        watts = (engine.log.energy_j - before_j) / (now_s - before_s)
        keep = fake.drive(0, watts, cap_bound=engine.log.bound_s > before_bound_s)
        before_s, before_j, before_bound_s = now_s, engine.log.energy_j, engine.log.bound_s
        if keep != kept:
            limit_w, clock_mhz = kept = keep
            engine.use_power(PowerModel(profile, latency, limit_w, clock_mhz))

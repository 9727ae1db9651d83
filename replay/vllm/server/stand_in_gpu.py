"""Lets the stand-in for vLLM draw power from the stand-in for NVML, and keep to its power limit and clock lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
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
    log, told_s, told_j, told_bound_s = engine.log, 0.0, 0.0, 0.0
    watts, bound = engine.power.idle_w, False
    while True:
        await asyncio.sleep(PERIOD_S)
        server._live.catch_up()
        # A step is told whole, at its end: over the time that it took, and until more is told.
        if log.end_s > told_s:
            watts, bound = (log.energy_j - told_j) / (log.end_s - told_s), log.bound_s > told_bound_s
            told_s, told_j, told_bound_s = log.end_s, log.energy_j, log.bound_s
        keep = fake.drive(0, watts, cap_bound=bound)
        if keep != kept:
            limit_w, clock_mhz = kept = keep
            engine.use_power(PowerModel(profile, latency, limit_w, clock_mhz))

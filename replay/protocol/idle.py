"""Idle power: what GPUs draw when nothing is asked of them."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from time import monotonic

from rejoule.replay.engine import PowerBetween
from rejoule.replay.protocol.agreement import VALUES, agree

PATIENCE = 4
"""An idle GPU that does not settle is waited for this many times the length of a baseline."""


async def settled_idle_w(power_w: PowerBetween, seconds: float) -> float | None:
    """Mean power over ``seconds`` whose three thirds agree within 2 %, in watts.

    After load, power and temperature fall for a while; after four times ``seconds`` it is taken as it is. ``None`` if
    power is not known.
    """
    begin_s = monotonic()
    third_s = seconds / VALUES
    await asyncio.sleep(seconds)
    while True:
        now_s = monotonic()
        edges = [now_s - i * third_s for i in range(VALUES, -1, -1)]
        thirds = [await power_w(a, b) for a, b in pairwise(edges)]
        if agree(thirds) or None in thirds or now_s - begin_s > PATIENCE * seconds:
            return await power_w(edges[0], now_s)
        await asyncio.sleep(third_s)


async def idle_w(power_w: PowerBetween, seconds: float) -> float | None:
    """Mean power over the coming ``seconds``, as it is, in watts."""
    begin_s = monotonic()
    await asyncio.sleep(seconds)
    return await power_w(begin_s, monotonic())

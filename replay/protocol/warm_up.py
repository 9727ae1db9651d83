"""Passes over the trace before a measured run, until the server does the same work in the same time and power."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from time import monotonic

from rejoule.replay.engine import Engine, PowerBetween
from rejoule.replay.passes import drive_pass
from rejoule.replay.protocol.agreement import agree
from rejoule.traces import Trace
from rejoule.traces.run import Configuration


@dataclass(frozen=True, slots=True)
class WarmUp:
    """One whole pass."""

    duration_s: float
    power_w: float | None
    """Mean over the pass; ``None`` where power is not sampled."""


def settled(passes: Sequence[WarmUp]) -> bool:
    """Whether the last three passes took the same time, and the same power where it is known."""
    powers = [p.power_w for p in passes]
    return agree([p.duration_s for p in passes]) and (agree(powers) or all(p is None for p in powers))


async def warm_up(
    engine: Engine, trace: Trace, configuration: Configuration, trial: int, limit_s: float, power_w: PowerBetween | None
) -> int:
    """Goes through the trace until it has settled, at most for ``limit_s`` seconds; a pass may be cut by that.

    Returns how many passes were begun. Calls that are then in flight end when the engine is closed.
    """
    passes: list[WarmUp] = []
    await engine.start()
    try:
        async with asyncio.timeout(limit_s):
            # Later passes than any of the run, so that nothing of theirs is in the cache under the run's own salts.
            for number in count(configuration.loops + 1):
                begin_s = monotonic()
                await drive_pass(trace, configuration, trial, number, engine)
                end_s = monotonic()
                passes.append(WarmUp(end_s - begin_s, None if power_w is None else await power_w(begin_s, end_s)))
                if settled(passes):
                    return len(passes)
    except TimeoutError:
        pass
    return len(passes) + 1

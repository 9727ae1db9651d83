"""The client in virtual time: it waits for calls to be due and for answers, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from rejoule.replay.engine import Emitted
from rejoule.replay.engines.sim import LATE_S, SimEngine
from rejoule.traces.model import Call
from rejoule.traces.run import CallResult, Configuration
from rejoule.traces.testing import made_call, made_trace, made_workflow

LAUNCHED_S = 0.004
"""A time at which the first step of long prompts is still being launched."""


def opened(calls: Sequence[Call]) -> SimEngine:
    return SimEngine(Configuration(), made_trace([made_workflow(calls, {}, name="w")]))


def told(engine: SimEngine, until_s: float | None) -> list[tuple[float, float]]:
    """When each result came, and the client's time then."""
    results = asyncio.run(_wait(engine, until_s))
    return [(r.at_s if isinstance(r, Emitted) else r.end_s, engine.now_s()) for r in results]


async def _wait(engine: SimEngine, until_s: float | None) -> Sequence[CallResult | Emitted]:
    return await engine.wait(until_s)


def test_a_client_does_not_wait_for_the_engine_to_launch_a_step() -> None:
    """It acts when its next call is due, a little late, although the engine is still launching."""
    long = made_call("w", "long", 0, 10, prompt="x " * 4000, output_tokens=5)
    engine = opened([long])
    engine.send(long, 0.0, 0.0)
    assert told(engine, LAUNCHED_S) == []
    assert engine.now_s() == pytest.approx(LAUNCHED_S + LATE_S)
    assert engine._engine.now_s > LAUNCHED_S + 2 * LATE_S


def test_a_client_learns_of_answers_one_instant_after_another() -> None:
    """It can act on the first before it knows of the second."""
    calls = [made_call("w", f"c{n}", 0, 10, prompt=f"{n}", output_tokens=n) for n in (5, 6, 7)]
    engine = opened(calls)
    for call in calls:
        engine.send(call, 0.0, 0.0)
    seen = [told(engine, None) for _ in calls]
    assert all(len(each) == 1 and each[0][1] == each[0][0] + LATE_S for each in seen), seen
    assert [each[0][0] for each in seen] == sorted(each[0][0] for each in seen)


def test_what_comes_later_than_the_client_waits_is_told_then() -> None:
    """An answer that was computed and is still on its way is not known before it is there."""
    call = made_call("w", "c", 0, 10, prompt="x", output_tokens=3)
    whole, engine = opened([call]), opened([call])
    whole.send(call, 0.0, 0.0)
    ((end_s, _),) = told(whole, None)
    engine.send(call, 0.0, 0.0)
    assert told(engine, end_s - 1e-4) == []
    assert told(engine, end_s) == [(end_s, end_s + LATE_S)]

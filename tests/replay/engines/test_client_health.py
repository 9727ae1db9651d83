"""Whether the client, not the server, was what a run measured."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from rejoule.replay.engines.client_health import client_limit, core_wait_s, cpu_share, quantiles, undisturbed
from rejoule.replay.engines.fine_loop import fine_loop
from rejoule.replay.engines.http import timeouts_of
from rejoule.replay.engines.wire import Timeouts
from rejoule.replay.places import Places
from rejoule.replay.schedule import Schedule
from rejoule.traces import RejouleError
from rejoule.traces.run import CallResult, Certificate, Configuration, Energy, PowerCap, Run
from rejoule.traces.testing import made_call, made_workflow


def run(engine: dict[str, Any], *, takes_s: float = 1.0) -> Run:
    """A run of 10 s with three calls."""
    calls = tuple(CallResult(f"c{i}", "w", "n", due_s=0.0, sent_s=0.0, end_s=takes_s) for i in range(3))
    return Run(
        id="r", trace="t", trace_digest="", configuration=Configuration(), trial=0, makespan_s=10.0, calls=calls,
        workflows=(), tools=(), energy=Energy(), power_cap=PowerCap(), certificate=Certificate("lengths", "", 0),
        engine=engine,
    )  # fmt: skip


def client(cpu_s: float = 1.0, late_s: float | None = 0.0) -> dict[str, Any]:
    return {"client_cpu_s": cpu_s, "client_lateness_s": {"p50": late_s, "p99": late_s, "max": late_s}}


def test_healthy() -> None:
    """A client with room left, on time for what its calls take, is no limit; nor is one that does not exist."""
    assert client_limit(run(client(cpu_s=7.9, late_s=0.009), takes_s=0.01)) is None
    assert client_limit(run(client(late_s=0.05), takes_s=6.0)) is None
    assert client_limit(run(client(late_s=None))) is None
    assert client_limit(run({})) is None and cpu_share(run({})) is None


def test_busy() -> None:
    """A client that filled its core is named as the limit, with its share."""
    assert cpu_share(run(client(cpu_s=8.1))) == pytest.approx(0.81)
    assert "81% of the run" in (client_limit(run(client(cpu_s=8.1))) or "")


def test_late() -> None:
    """A client that was late by more than 10 ms and 1 % of a typical call is named, with how late it was."""
    assert "more than 50 ms late" in (client_limit(run(client(late_s=0.05), takes_s=1.0)) or "")


def test_kept_from_the_cores() -> None:
    """Where other processes had the cores for as long as a client was late, that is said, with the remedy."""
    said = client_limit(run(client(late_s=2.5) | {"client_core_wait_s": 2.4})) or ""
    assert "more than 2500 ms late: it waited 2.4 s for a core" in said and "taskset" in said
    assert "core" not in (client_limit(run(client(late_s=2.5) | {"client_core_wait_s": 0.1})) or "core")
    assert "core" not in (client_limit(run(client(late_s=2.5) | {"client_core_wait_s": None})) or "core")


@pytest.mark.skipif(core_wait_s() is None, reason="this system does not say how long a thread waited for a core")
def test_the_wait_for_a_core_is_the_thread_s_own() -> None:
    """Threads that want the interpreter wait for it, not for a core; more processes than cores make one wait."""
    before = core_wait_s()
    assert before is not None
    code = "import time; end = time.monotonic() + 1\nwhile time.monotonic() < end: pass"
    others = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(2 * (os.cpu_count() or 1))]
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        pass
    assert [other.wait() for other in others] == [0] * len(others)
    after = core_wait_s()
    assert after is not None and after > before + 0.01


def test_quantiles() -> None:
    """Quantiles are values that occurred; of nothing they are unknown."""
    assert quantiles([float(i) for i in range(200, 0, -1)]) == {"p50": 100.0, "p99": 198.0, "max": 200.0}
    assert quantiles([]) == {"p50": None, "p99": None, "max": None}


def test_undisturbed() -> None:
    """The interpreter is as it was afterwards, after a failure too."""
    before = gc.isenabled(), gc.get_freeze_count(), sys.getswitchinterval()
    with pytest.raises(ZeroDivisionError), undisturbed():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert (gc.isenabled(), gc.get_freeze_count(), sys.getswitchinterval()) == before


def test_waiting_for_a_place_is_not_late() -> None:
    """A call that the limit held back could be sent when a place became free, not when it was due."""
    flows = [made_workflow([made_call(f"w{i}", "c", 0, 10)], {}, name=f"w{i}") for i in range(3)]
    schedule = Schedule(flows, [0.0, 0.0, 9.0], places=Places(1))
    assert [(d.call.id, d.due_s, d.ready_s) for d in schedule.due(0.0)] == [("w0/c", 0.0, 0.0)]
    schedule.failed("w0/c", 4.0)
    assert [(d.call.id, d.due_s, d.ready_s) for d in schedule.due(4.5)] == [("w1/c", 0.0, 4.0)]
    schedule.finished("w1/c", 6.0)
    assert [(d.call.id, d.due_s, d.ready_s) for d in schedule.due(9.5)] == [("w2/c", 9.0, 9.0)]


def test_timeouts() -> None:
    """Timeouts are an engine's options, in seconds; what is none is refused by its name."""
    assert timeouts_of({}) == Timeouts()
    options = {"call_timeout_s": 9, "first_token_timeout_s": 2.5, "silence_timeout_s": 1, "other": "x"}
    assert timeouts_of(options) == Timeouts(silence_s=1.0, first_token_s=2.5, call_s=9.0)
    for wrong in (0, -1, "5", [1]):
        with pytest.raises(RejouleError, match=r"call_timeout_s = .* is no timeout"):
            timeouts_of({"call_timeout_s": wrong})


def test_fine_loop() -> None:
    """Timers go off in their order and no sooner than asked for, while other threads and sockets are heard."""

    async def both() -> list[str]:
        loop, order = asyncio.get_running_loop(), list[str]()
        began = loop.time()
        later = asyncio.create_task(asyncio.sleep(0.02))
        later.add_done_callback(lambda _: order.append("later"))
        await asyncio.sleep(0.0005)
        order.append("soon")
        assert loop.time() - began >= 0.0004
        assert await asyncio.to_thread(lambda: "thread") == "thread"
        await later
        return order

    with asyncio.Runner(loop_factory=fine_loop) as runner:
        assert runner.run(both()) == ["soon", "later"]

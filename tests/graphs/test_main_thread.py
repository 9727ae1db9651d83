"""Synchronous graphs run where `graph.invoke()` would run them: on the main thread."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from rejoule.graphs.capture import ServerInfo
from rejoule.graphs.main_thread import beside_main, on_main
from rejoule.graphs.record import record
from rejoule.traces.model import Call, Task, ToolCall, Unrecorded, Workflow

MAIN = threading.main_thread()


class State(TypedDict, total=False):
    topic: str


class Nowhere:
    def add(self, record: Call | ToolCall | Task) -> None: ...

    def close(self, workflow: Workflow) -> None: ...

    def tell(self, unrecorded: Iterable[Unrecorded]) -> None: ...


def chain(*nodes: Any) -> Any:
    builder = StateGraph(State)
    for number, node in enumerate(nodes):
        builder.add_node(str(number), node)
        builder.add_edge(START if not number else str(number - 1), str(number))
    return builder.compile()


@pytest.mark.parametrize(("inputs", "concurrency"), [(1, 8), (4, 1)])
def test_one_workflow_at_a_time(inputs: int, concurrency: int) -> None:
    """Nodes may use what belongs to the main thread: signals, and what was made there."""
    seen: list[threading.Thread] = []

    def node(state: State) -> None:
        seen.append(threading.current_thread())
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    server = ServerInfo("http://nowhere/v1")
    graph = chain(node, node, node)
    done = beside_main(
        lambda: record(graph, [{"topic": "a"}] * inputs, server=server, writer=Nowhere(), concurrency=concurrency)
    )
    assert [w.status for w in done.workflows] == ["done"] * inputs
    assert seen == [MAIN] * 3 * inputs


def test_workflows_side_by_side() -> None:
    """They do not wait for each other: each of these waits until all are there."""
    together = threading.Barrier(3, timeout=20)
    server = ServerInfo("http://nowhere/v1")
    graph = chain(lambda state: {"topic": str(together.wait())})
    done = beside_main(lambda: record(graph, [{"topic": "a"}] * 3, server=server, writer=Nowhere()))
    assert [w.error for w in done.workflows] == [None] * 3


def test_what_fails_is_raised() -> None:
    """An error of the work, or of what the main thread does for it, is the caller's."""

    async def work() -> None:
        await on_main(int, "x")

    with pytest.raises(ValueError, match="'x'"):
        beside_main(work)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_inside_a_loop() -> None:
    """Where a loop runs already, the work is done in another thread, as before."""

    async def work() -> bool:
        return await on_main(threading.current_thread) is MAIN

    assert beside_main(work) is False


def test_interrupts_end_what_the_main_thread_does() -> None:
    """Ctrl-C reaches a node that waits there, and the work may clean up first."""
    code = """
import asyncio, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from rejoule.graphs.main_thread import beside_main, on_main
async def work():
    try:
        await on_main(lambda: (print("waiting", flush=True), time.sleep(60)))
    finally:
        print("cleaned up", flush=True)
try:
    beside_main(work)
except KeyboardInterrupt:
    print("interrupted")
"""
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "waiting\n"
    begun = time.monotonic()
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=20)[0].splitlines() == ["cleaned up", "interrupted"]
    assert time.monotonic() - begun < 5

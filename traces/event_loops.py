"""Coroutines for code that does not await, whether an event loop runs around it or not, as in a notebook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextvars import copy_context
from typing import Any, Final, TypeVar

T = TypeVar("T")

POLL_S: Final = 0.1
"""How long an interrupt may go unseen that asyncio turned into a cancellation of the task around."""


def finished(
    work: Callable[[], Coroutine[Any, Any, T]], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> T:
    """The result of ``work`` in an event loop of its own: in another thread where one runs in this one already.

    An interrupt cancels it, waits until it has cleaned up, and is raised.
    """
    try:
        around = asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(work())
    with ThreadPoolExecutor(1) as thread:
        inside: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = Future()
        result = thread.submit(copy_context().run, _alone, work, loop_factory, inside)
        try:
            return _waited(result, asyncio.current_task(around))
        except BaseException:
            if not result.done():
                loop, task = inside.result()
                loop.call_soon_threadsafe(task.cancel)
            raise


def _alone(
    work: Callable[[], Coroutine[Any, Any, T]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    inside: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]],
) -> T:
    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        inside.set_result((asyncio.get_running_loop(), task))
        return await work()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main())


def _waited(result: Future[T], task: asyncio.Task[Any] | None) -> T:
    while True:
        try:
            return result.result(timeout=POLL_S)
        except NotYet:
            if result.done():
                raise
            # asyncio.run turns Ctrl-C into a cancellation, which the blocked task cannot take.
            if task is not None and task.cancelling():
                raise KeyboardInterrupt from None

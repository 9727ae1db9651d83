"""Threads for synchronous nodes, which nobody waits for once a recording has been stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """A thread for each call, which does not keep the process alive.

    A pool of the standard library is waited for at the end of an event loop and of the process, as long as a node
    waits for its server: ten minutes and more. So many nodes may wait side by side as there are workflows.
    """

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        Thread(target=_run, args=(future, fn, args, kwargs), daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False)


def use_daemon_threads() -> None:
    """For the running event loop, which must be ReJoule's own."""
    asyncio.get_running_loop().set_default_executor(DaemonThreads())


def _run(future: Future[T], fn: Callable[..., T], args: Any, kwargs: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)

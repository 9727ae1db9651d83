"""The main thread works for an event loop in another, so that synchronous nodes may use what belongs to it."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

from rejoule.graphs.daemon_threads import DaemonThreads, use_daemon_threads
from rejoule.traces.event_loops import finished

T = TypeVar("T")
Job = Callable[[], None]


class MainThread(DaemonThreads):
    """Runs a call on the main thread where ``alone`` and it has nothing to do, and on a thread of its own otherwise.

    So LangGraph's ``invoke`` does it: a node by itself runs where the graph was called, and nodes side by side do not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alone = False
        """Whether one workflow runs at a time; several would wait for each other."""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._free = threading.Lock()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if not self.alone or not self._free.acquire(blocking=False):
            return super().submit(fn, *args, **kwargs)
        return self._hand_over(partial(fn, *args, **kwargs), self._free.release)

    async def call(self, fn: Callable[..., T], *args: Any) -> T:
        """On the main thread, whatever it has to do first."""
        return await asyncio.wrap_future(self._hand_over(partial(copy_context().run, fn, *args), lambda: None))

    def work(self) -> None:
        """Does what it is given, on the calling thread, until it is told to end."""
        while (job := self._jobs.get()) is not None:
            job()

    def end(self) -> None:
        self._jobs.put(None)

    def _hand_over(self, fn: Callable[[], T], after: Callable[[], None]) -> Future[T]:
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                after()
                return
            try:
                result = fn()
            except BaseException as error:
                after()
                future.set_exception(error)
            else:
                # Before the next node is known to be due, which shall find it free.
                after()
                future.set_result(result)

        self._jobs.put(job)
        return future


MAIN: ContextVar[MainThread | None] = ContextVar("rejoule_main", default=None)
"""The main thread, where it works for the running loop."""


async def on_main(fn: Callable[..., T], *args: Any) -> T:
    """Calls it on the main thread, or here where that works for nobody."""
    main = MAIN.get()
    return fn(*args) if main is None else await main.call(fn, *args)


def beside_main(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of ``work`` in an event loop beside the main thread, which calls this and works for it meanwhile.

    Called elsewhere, or from inside a loop, the loop runs as `finished` has it. Ctrl-C cancels the work, waits until
    it has cleaned up, and is raised unless that gave a result.
    """
    if threading.current_thread() is not threading.main_thread() or _in_loop():
        return finished(partial(_with_daemons, work))
    main = MainThread()
    started: Future[Callable[[], object]] = Future()
    result: Future[T] = Future()
    threading.Thread(target=copy_context().run, args=(_beside, work, main, started, result), daemon=True).start()
    stopped = threading.Event()
    with _interrupting(started.result(), stopped):
        while not result.done():
            try:
                main.work()
            except KeyboardInterrupt:
                # The work is being cancelled, and ends this loop when it has cleaned up.
                continue
    try:
        return result.result()
    except asyncio.CancelledError:
        if stopped.is_set():
            raise KeyboardInterrupt from None
        raise


def _beside(
    work: Callable[[], Coroutine[Any, Any, T]],
    main: MainThread,
    started: Future[Callable[[], object]],
    result: Future[T],
) -> None:
    async def run() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        loop.set_default_executor(main)
        MAIN.set(main)
        started.set_result(partial(loop.call_soon_threadsafe, task.cancel))
        return await work()

    try:
        result.set_result(asyncio.run(run()))
    except BaseException as error:
        result.set_exception(error)
    finally:
        main.end()


async def _with_daemons(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    use_daemon_threads()
    return await work()


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def _interrupting(cancel: Callable[[], object], stopped: threading.Event) -> Iterator[None]:
    """Ctrl-C cancels the work and interrupts what the main thread does; left alone where another handler is set."""

    def interrupted(number: int, frame: object) -> None:
        stopped.set()
        cancel()
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

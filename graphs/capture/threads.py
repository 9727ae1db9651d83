"""Carries the place of a call into threads that a node starts by itself."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any


@contextmanager
def inherited_context(wanted: Callable[[], bool]) -> Iterator[None]:
    """While open, threads and thread pools run work in the context of the code that handed it over.

    Only where ``wanted()`` says so in that code's own context; everything else is left alone.
    """
    submit: Any = ThreadPoolExecutor.submit
    start: Any = threading.Thread.start

    @functools.wraps(submit)
    def submit_in_context(pool: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if not wanted():
            return submit(pool, fn, *args, **kwargs)
        # The pool may start a thread here, which lives on and must not keep this context for later work.
        return Context().run(submit, pool, copy_context().run, fn, *args, **kwargs)

    @functools.wraps(start)
    def start_in_context(thread: threading.Thread) -> None:
        if wanted():
            thread.run = functools.partial(copy_context().run, thread.run)  # type: ignore[method-assign]
        start(thread)

    pools: Any = ThreadPoolExecutor
    threads: Any = threading.Thread
    pools.submit, threads.start = submit_in_context, start_in_context
    try:
        yield
    finally:
        pools.submit, threads.start = submit, start

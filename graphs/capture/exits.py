"""Keeps a node that calls ``sys.exit()`` from ending more than its own workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any


class NodeExitError(Exception):
    """A node raised ``SystemExit``."""


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine as it is, but for the exception that asyncio would stop its loop for."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        # Others look at a task's coroutine to learn its state.
        return getattr(self._inner, name)

    def __await__(self) -> Iterator[Any]:  # type: ignore[override]
        return self._inner.__await__()

    def send(self, value: Any, /) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        self._inner.close()

    @staticmethod
    def _step(step: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return step(*arguments)
        except SystemExit as error:
            raise NodeExitError(f"SystemExit({error.code!r})") from error


@contextmanager
def exits_contained() -> Iterator[None]:
    """``SystemExit`` fails only the task that it ends, of those that begin in this loop while it is open."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    def make(loop: Any, inner: Any, **options: Any) -> Any:
        found = _Contained(inner) if asyncio.iscoroutine(inner) else inner
        return before(loop, found, **options) if before else asyncio.Task(found, loop=loop, **options)

    loop.set_task_factory(make)
    try:
        yield
    finally:
        loop.set_task_factory(before)

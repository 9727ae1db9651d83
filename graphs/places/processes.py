"""Takes the place of a call along into processes that a node starts, or hands work to."""

from __future__ import annotations

import contextvars
import functools
import inspect
import multiprocessing.pool
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

from rejoule.graphs.places import owners
from rejoule.graphs.places.senders import senders_told, standard_told, tell_late

_for_good = ExitStack()
_patched = 0


@dataclass(frozen=True, slots=True)
class Placed:
    """Work for another process, with the place of the code that handed it over."""

    work: Callable[..., Any]
    net: str
    server: str
    place: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tell_for_good()
        with owners.told(self.net, self.server, self.place):
            return self.work(*args, **kwargs)


def placed(work: Callable[..., Any], *, starts: bool = False) -> Callable[..., Any]:
    """The work with its place, or as it is outside any node; ``starts`` where it is a process of its own."""
    for owner in owners.owners():
        if (place := owner.place()) is not None:
            return Placed(work, owner.net, owner.server, owners.inherited(place) if starts else place)
    return work


def in_context(work: Callable[..., Any]) -> Callable[..., Any]:
    """The work in the context of the code that handed it over, as often as it is done and side by side."""
    context = contextvars.copy_context()
    return lambda *args, **kwargs: context.copy().run(work, *args, **kwargs)


@contextmanager
def processes_told() -> Iterator[None]:
    """While open, senders in this process and all that it starts say where they are."""
    global _patched
    with ExitStack() as undo:
        undo.enter_context(senders_told())
        undo.enter_context(_work_placed())
        _patched += 1
        try:
            yield
        finally:
            _patched -= 1


def tell_for_good() -> None:
    """In a worker process that may have been started without any of this."""
    global _patched
    if not _patched:
        _patched += 1
        _for_good.enter_context(standard_told())
        _for_good.enter_context(_work_placed())
    tell_late(_for_good)


@contextmanager
def _work_placed() -> Iterator[None]:
    pool: Any = multiprocessing.pool.Pool
    with ExitStack() as undo:
        for kind, name, around in (
            (ProcessPoolExecutor, "submit", _submit),
            (pool, "apply_async", _hand_over),
            (pool, "_map_async", _hand_over),
            (pool, "imap", _hand_over),
            (pool, "imap_unordered", _hand_over),
            (BaseProcess, "start", _start),
            (subprocess.Popen, "__init__", _popen),
        ):
            before = getattr(kind, name)
            setattr(kind, name, functools.wraps(before)(around(before)))
            undo.callback(setattr, kind, name, before)
        yield


def _submit(submit: Any) -> Any:
    def submit_placed(pool: Any, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        return submit(pool, placed(work), *args, **kwargs)

    return submit_placed


def _hand_over(hand: Any) -> Any:
    def hand_over(pool: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        threads = isinstance(pool, multiprocessing.pool.ThreadPool)
        return hand(pool, in_context(func) if threads else placed(func), *args, **kwargs)

    return hand_over


def _start(start: Any) -> Any:
    def start_placed(process: Any) -> None:
        run = placed(process.run, starts=True)
        if not isinstance(run, Placed):
            start(process)
            return
        # A process that is pickled takes along what it holds.
        process.run = run
        try:
            start(process)
        finally:
            del process.run

    return start_placed


def _popen(init: Any) -> Any:
    signature = inspect.signature(init)

    def init_placed(self: Any, *args: Any, **kwargs: Any) -> None:
        if any(owner.place() is not None for owner in owners.owners()):
            given = signature.bind(self, *args, **kwargs)
            env = given.arguments.get("env")
            variables = dict(os.environ if env is None else env)
            command = given.arguments["args"]
            words = list(command) if isinstance(command, list | tuple) else command
            given.arguments |= {"env": _addressed(variables), "args": _addressed(words)}
            init(*given.args, **given.kwargs)
        else:
            init(self, *args, **kwargs)

    return init_placed


def _addressed(value: Any) -> Any:
    match value:
        case str():
            return owners.addressed(value)
        case list():
            return [_addressed(item) for item in value]
        case dict():
            return {name: _addressed(item) for name, item in value.items()}
    return value


def forked() -> None:
    """In a child of the recording's process."""
    if owners.owners():
        owners.left()
        # Patched before the fork, but for what the recording watched by itself.
        tell_late(_for_good)


os.register_at_fork(before=owners.leaving, after_in_child=forked)

"""Which thread of control runs: a thread, and a task of asyncio in it; and the word by which a request names it."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from typing import Any

Task = asyncio.Task[Any]
Control = tuple[int | str, "weakref.ref[Task] | None"]
"""A thread with a task in it; of another process only a name is known."""

_told: weakref.WeakValueDictionary[int, Task] = weakref.WeakValueDictionary()
"""Tasks that have named themselves."""


def control() -> Control:
    """The thread of control of the running code."""
    task = _task()
    return threading.get_ident(), None if task is None else weakref.ref(task)


def hand() -> str:
    """A word for the thread of control of the running code."""
    task = _task()
    if task is not None:
        _told[id(task)] = task
    return f"{os.getpid()}-{threading.get_ident()}-{0 if task is None else id(task)}"


def of_hand(word: str) -> Control:
    """Whose word it is."""
    process, _, rest = word.partition("-")
    thread, _, number = rest.partition("-")
    if process != str(os.getpid()) or not (thread.isdecimal() and number.isdecimal()):
        return word, None
    if number == "0":
        return int(thread), None
    task = _told.get(int(number))
    return (word, None) if task is None else (int(thread), weakref.ref(task))


def _task() -> Task | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None

"""A change to other libraries' classes that lasts while anybody needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


class SharedPatch:
    """Made when the first holder comes and undone when the last one goes, in whatever order they go."""

    def __init__(self, make: Callable[[], AbstractContextManager[None]]) -> None:
        self._make = make
        self._made: AbstractContextManager[None] | None = None
        self._holders = 0
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the change in force while open."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
                self._made.__enter__()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    made, self._made = self._made, None
                    made.__exit__(None, None, None)

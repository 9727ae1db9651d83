"""The one lock of a recording, which finalizers may need, too."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Guard:
    """Taken by one thread at a time, and again by the thread that has it.

    Python ends what nobody can reach at any moment, in any thread: also in one that holds this
    and is in the middle of something. What such an end does is put off until it lets go.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._thread: int | None = None
        self._depth = 0
        self._later: deque[Callable[[], None]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._thread = threading.get_ident()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        try:
            while self._depth == 1 and self._later:
                self._later.popleft()()
        finally:
            self._depth -= 1
            if not self._depth:
                self._thread = None
            self._lock.release()

    def soon(self, work: Callable[[], None]) -> None:
        """Does it now, or when this thread lets go if it holds this."""
        if self._thread == threading.get_ident():
            self._later.append(work)
        else:
            work()

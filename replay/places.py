"""How many calls may be in flight: pure, and no clock."""

from __future__ import annotations

from collections import deque


class Places:
    """At most ``limit`` calls at a time; each that ends makes room for another. ``None`` is no limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._freed_s = deque([0.0] * (limit or 0))

    @property
    def free(self) -> int | None:
        """How many calls may go out now; ``None`` is any number."""
        return None if self._limit is None else len(self._freed_s)

    def take(self) -> float:
        """A call goes out: when its place became free."""
        return 0.0 if self._limit is None else self._freed_s.popleft()

    def give(self, at_s: float) -> None:
        """A call ended."""
        if self._limit is not None:
            self._freed_s.append(at_s)

    def close(self) -> None:
        """All that could go out now has gone out."""


class Waves(Places):
    """Static batching: up to ``limit`` calls go out together, and no other before all of them have ended."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._size = limit
        self._out = 0
        self._last_s = 0.0

    def take(self) -> float:
        self._out += 1
        return super().take()

    def give(self, at_s: float) -> None:
        self._out -= 1
        self._last_s = max(self._last_s, at_s)
        if not self._out:
            self._freed_s.clear()
            self._freed_s.extend([self._last_s] * self._size)

    def close(self) -> None:
        if self._out:
            self._freed_s.clear()

"""Since when the bytes of a stream wait in its socket, while the event loop that should read them is held up.

A node may work in its event loop, and so keep it from reading. A thread looks meanwhile how many bytes wait; when the
loop reads on, the pieces that it finds get the times at which so many bytes were there. Encrypted ones take more bytes
than is counted here, so pieces seem to have come earlier by up to that share of the time that they waited.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from contextlib import suppress
from fcntl import ioctl
from termios import FIONREAD
from typing import Any, Final

LOOK_S: Final = 0.004
HELD_UP_NS: Final = 10_000_000
"""Bytes that wait for less are read in time."""
READ_BYTES: Final = 60_000
"""A read of about so much may have left something behind."""
FRAME: Final = len(b"\r\n\r\n")
"""Around a chunk of a body, beside its length in hexadecimal digits."""


class Backlog:
    """What waits in one socket."""

    def __init__(self, socket: Any) -> None:
        """``socket`` has a ``fileno``; of ``None`` nothing is known."""
        self._socket = socket
        self._waiting: deque[tuple[int, int]] = deque()
        self._last = self._read = self._came_ns = 0
        self._new: deque[tuple[int, int]] = deque()
        if self._socket is not None:
            _LOOKOUT.add(self)

    def look(self) -> None:
        """Notes what has come since it last looked."""
        assert self._socket is not None
        with suppress(OSError, ValueError):
            waits = int(struct.unpack("i", ioctl(self._socket.fileno(), FIONREAD, b"\0\0\0\0"))[0])
            if waits > self._last:
                self._new.append((time.monotonic_ns(), waits - self._last))
            self._last = waits

    def read(self) -> None:
        """The loop has read what there was: what was seen until now is of this read, or of a long one before."""
        if self._read < READ_BYTES:
            self._waiting.clear()
        self._read = 0
        while self._new:
            self._waiting.append(self._new.popleft())

    def since_ns(self, piece: bytes) -> int:
        """For how long a piece of that read has waited; 0 if it was read in time."""
        left = len(piece) + len(f"{len(piece):x}") + FRAME
        self._read += left
        now_ns, at_ns = time.monotonic_ns(), None
        while left > 0 and self._waiting:
            at_ns, held = self._waiting.popleft()
            if held > left:
                self._waiting.appendleft((at_ns, held - left))
            left -= held
        if at_ns is None or left > 0 or now_ns - at_ns < HELD_UP_NS:
            at_ns = now_ns
        self._came_ns = max(at_ns, self._came_ns)
        return now_ns - self._came_ns

    def close(self) -> None:
        _LOOKOUT.remove(self)


class _Lookout:
    """One thread for all sockets, while there are any."""

    def __init__(self) -> None:
        self._backlogs: set[Backlog] = set()
        self._looking = False
        self._lock = threading.Lock()

    def add(self, backlog: Backlog) -> None:
        with self._lock:
            self._backlogs.add(backlog)
            begin, self._looking = not self._looking, True
        if begin:
            threading.Thread(target=self._look, name="rejoule-lookout", daemon=True).start()

    def remove(self, backlog: Backlog) -> None:
        with self._lock:
            self._backlogs.discard(backlog)

    def _look(self) -> None:
        while True:
            with self._lock:
                backlogs = list(self._backlogs)
                self._looking = bool(backlogs)
            if not backlogs:
                return
            for backlog in backlogs:
                backlog.look()
            time.sleep(LOOK_S)


_LOOKOUT = _Lookout()

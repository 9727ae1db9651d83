"""An event loop whose timers are late by tens of microseconds instead of up to a millisecond.

asyncio hands epoll its timeout, which epoll takes in whole milliseconds, rounded up. ``select`` takes microseconds,
and can wait for epoll itself.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from typing import Any, Final

SELECTABLE: Final = 1024
"""``select`` takes file descriptors below this (FD_SETSIZE of glibc)."""


class FineSelector(selectors.EpollSelector):
    """Waits for what is registered, with a timeout in microseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        if timeout is not None and timeout > 0 and self.fileno() < SELECTABLE:
            select.select((self.fileno(),), (), (), timeout)
            timeout = 0
        return super().select(timeout)


def fine_loop() -> asyncio.AbstractEventLoop:
    """To be given to ``asyncio.Runner`` as its ``loop_factory``."""
    return asyncio.SelectorEventLoop(FineSelector())

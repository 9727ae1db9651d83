"""Lets GPUs cool until a run starts as warm as the first one did: a hot GPU leaks more, so it draws more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

TOLERANCE_C: Final = 2.0
COOL_DOWN_S: Final = 60.0
POLL_S: Final = 0.5


class StartTemperature:
    """``await match(...)`` before each run; the first sets the temperature.

    A GPU that is still warmer when the time is up has come to rest there: that temperature is matched from then on, so
    that a first run on a cold GPU does not make all others wait in vain.
    """

    def __init__(self, read_c: Callable[[], float | None]) -> None:
        """``read_c`` reads the hottest GPU; ``None`` from it, and nothing is waited for."""
        self._read_c = read_c
        self.start_c: float | None = None

    async def match(
        self,
        *,
        tolerance_c: float = TOLERANCE_C,
        cool_down_s: float = COOL_DOWN_S,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Returns once the GPU is at most ``tolerance_c`` warmer than at the first start, or after ``cool_down_s``."""
        deadline_s = monotonic() + cool_down_s
        while (now_c := self._read_c()) is not None:
            if self.start_c is None:
                self.start_c = now_c
            if now_c <= self.start_c + tolerance_c:
                return
            if monotonic() >= deadline_s:
                self.start_c = now_c
                return
            on_wait(f"cooling down: {now_c:g} °C, to {self.start_c + tolerance_c:g} °C")
            await asyncio.sleep(min(POLL_S, cool_down_s))

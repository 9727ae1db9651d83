"""When to read an energy counter whose reads are dear, so that little is spent and all that matters is known.

On an H200 one read takes 4 ms of CPU time. Once the counter's pace is known, a read between two ticks tells the energy
at the tick before it, and a sweep of reads across a tick keeps the pace known. So after a burst at the start there are
lone reads far and unevenly apart, in every fourth place a sweep, and at the ends of a window, when told of them, one at
each tick.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import Final

import numpy as np

from rejoule.replay.energy.pace import Pace, find_pace

SHARE: Final = 0.001
"""Of one core, for a lone read in each interval; sweeps double it."""
SWEEP_EVERY: Final = 4
UNEVEN: Final = 0.5
"""Share by which intervals differ from sweep to sweep: of even ones ticks would be in phase at other periods, too."""
GOLDEN: Final = (5**0.5 - 1) / 2
"""Multiples of it, without what is whole, lie evenly between 0 and 1, and none repeats."""
VAGUE: Final = 0.1
"""Share of a period: where ticks are less well known, every read is a sweep."""
BURST_S: Final = 2.5
"""25 ticks of the slowest counter known."""
BLIND_S: Final = 0.4
"""Shows the next ticks of a counter without a pace."""
FEWEST: Final = 12
"""Ticks from which a pace is found."""
KEPT: Final = 64
SPARE_S: Final = 0.002
"""Reads keep so far from where a tick may be: timers are late."""
BURST_EVERY_S: Final = 60.0
MISSES: Final = 2
"""A sweep that a tick evaded may have been late; after so many in a row the pace is wrong."""
NEXT_TICKS: Final = 2
"""So many after the end of a window."""


@dataclass(slots=True)
class CounterReads:
    """Reads of one GPU's counter; times are seconds of the monotonic clock.

    Read when ``due_s`` has come, and tell ``told`` what was read.
    """

    cost_s: float
    """How long one read takes."""
    start_s: float
    pace: Pace | None = field(default=None, init=False)
    """``None`` until a burst of reads has found it."""
    _due: deque[float] = field(default_factory=deque)
    _brackets: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))
    _last: tuple[float, int | None] | None = None
    _burst_until_s: float = 0.0
    _may_burst_s: float = 0.0
    _sweep_until_s: float = 0.0
    _displaced: bool = False
    """Whether a sweep gave way to the end of a window: else many windows would leave none."""
    _turn: int = 0
    _misses: int = 0
    _next: int = 0

    def __post_init__(self) -> None:
        self._burst(self.start_s)

    @property
    def due_s(self) -> float:
        return self._due[0]

    @property
    def bursting(self) -> bool:
        return self._burst_until_s > 0

    def focus(self, now_s: float) -> None:
        """Asks for the tick before ``now_s`` and for each of the next ones."""
        if self.bursting:
            return
        if self.pace is None:
            self._burst(now_s, BLIND_S)
        else:
            self._displaced |= self._sweep_until_s > 0
            self._next = NEXT_TICKS
            self._sweep_until_s = 0.0
            self._due = deque([now_s])

    def told(self, begun_s: float, end_s: float, energy_mj: int | None) -> None:
        """What a read that was due has told."""
        self._due.popleft()
        ticked = self._ticked(begun_s, end_s, energy_mj)
        self._last = begun_s, energy_mj
        if self.bursting:
            self._go_on_bursting(end_s)
        elif self._sweep_until_s and not ticked and begun_s < self._sweep_until_s:
            self._due.append(end_s)
        else:
            if self._sweep_until_s:
                self._judge(ticked)
            self._plan(end_s)

    def _ticked(self, begun_s: float, end_s: float, energy_mj: int | None) -> bool:
        if self._last is None:
            return False
        before_s, before_mj = self._last
        if energy_mj is None or before_mj is None:
            return False
        longest_s = 0.05 if self.pace is None else 0.4 * self.pace.period_s
        if energy_mj <= before_mj or end_s - before_s > longest_s:
            return False
        self._brackets.append((before_s, end_s))
        return True

    def _burst(self, now_s: float, length_s: float = BURST_S) -> None:
        self._burst_until_s = now_s + length_s
        self._may_burst_s = now_s + BURST_EVERY_S
        self._brackets.clear()
        self._next = 0
        self._due = deque([now_s])

    def _go_on_bursting(self, now_s: float) -> None:
        self._due = deque([now_s + max(self.cost_s, SPARE_S)])
        if now_s > self._burst_until_s:
            self._burst_until_s = 0.0
            self._misses = 0
            self.pace = None
            self._fit(None)
            self._sweep_until_s = 0.0
            self._plan(now_s)

    def _judge(self, ticked: bool) -> None:
        self._misses = 0 if ticked else self._misses + 1
        if ticked and self.pace is not None:
            self._fit(self.pace)

    def _fit(self, known: Pace | None) -> None:
        if len(self._brackets) >= FEWEST:
            low, high = np.array(self._brackets).T
            found = find_pace(low, high) if known is None else find_pace(low, high, known.period_s, known.off)
            self.pace = found or self.pace

    def _plan(self, now_s: float) -> None:
        """What comes after a lone read or a sweep that has ended at ``now_s``."""
        every_s = self.cost_s / SHARE * (1 + UNEVEN * (self._turn // SWEEP_EVERY * GOLDEN % 1 - 0.5))
        self._sweep_until_s = 0.0
        lost = self.pace is None or self.pace.reach_at(now_s + every_s) > self.pace.period_s / 4
        if (lost or self._misses >= MISSES) and now_s > self._may_burst_s:
            self._burst(now_s)
            return
        if self.pace is None:
            self._due = deque([now_s + every_s])
            return
        after_s = now_s if self._displaced else now_s + every_s
        lone = (
            not self._displaced
            and self._turn % SWEEP_EVERY > 0
            and self.pace.reach_at(after_s + every_s) < VAGUE * self.pace.period_s
        )
        if self._next:
            # A tick that may have come while the last read was under way is read again.
            self._next -= 1
            lone, after_s = True, now_s - self.cost_s - float(self.pace.reach_at(now_s)) - SPARE_S
        else:
            self._turn += not self._displaced
            self._displaced = False
        if lone:
            tick_s = self.pace.at_s(ceil(self.pace.number(after_s)))
            self._due = deque([tick_s + (self.pace.period_s - self.cost_s) / 2])
            return
        away_s = float(self.pace.reach_at(after_s)) + SPARE_S
        tick_s = self.pace.at_s(ceil(self.pace.number(after_s + self.cost_s + away_s)))
        self._due = deque([tick_s - away_s - self.cost_s])
        self._sweep_until_s = tick_s + away_s

"""When requests come out of an API server, which works on all that it has at once.

A request alone is underway for a time of its own. Where several are underway together, the server reads all of them
before it hands the first one on: each makes all come out later, and they come out together.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush, nsmallest
from typing import Final

from rejoule.replay.sim.jobs import Job

CROWD: Final = 32
"""How many it works on at once. On an H200's host, of 2 to 32 requests the first came out 0.7 ms later for each, and of
256 as late as of 128."""


class ApiServer:
    """The requests on their way to the scheduler. ``crowd_s`` is what each makes the others wait."""

    def __init__(self, crowd_s: float) -> None:
        self._crowd_s = crowd_s
        self._underway: list[tuple[float, int, Job]] = []
        self._free_s = -math.inf
        self._next: tuple[float, int] | None = None

    def send(self, job: Job, alone_s: float) -> None:
        """Take a request that, alone, would be out at ``alone_s``."""
        heappush(self._underway, (alone_s, job.number, job))
        self._next = None

    def drop(self, job: Job) -> bool:
        """Forget a request; whether it was here."""
        before = len(self._underway)
        self._underway = [entry for entry in self._underway if entry[2] is not job]
        heapify(self._underway)
        self._next = None
        return len(self._underway) < before

    @property
    def out_s(self) -> float | None:
        """When the next ones come out, if none is sent before; ``None`` if there are none."""
        return self._crowd()[0] if self._underway else None

    def take(self, now_s: float) -> list[Job]:
        """Those that are out by ``now_s``, in the order in which they were sent."""
        found: list[Job] = []
        while self._underway:
            out_s, count = self._crowd()
            if out_s > now_s:
                break
            found += [heappop(self._underway)[2] for _ in range(count)]
            self._free_s, self._next = out_s, None
        return found

    def _crowd(self) -> tuple[float, int]:
        """When the next ones come out, and how many they are."""
        if self._next is None:
            if not self._crowd_s:
                self._next = self._underway[0][0], 1
                return self._next
            first, *others = nsmallest(CROWD, self._underway)
            out_s, count = max(first[0], self._free_s + self._crowd_s), 1
            for alone_s, _, _ in others:
                if alone_s > out_s:
                    break
                out_s += self._crowd_s
                count += 1
            self._next = out_s, count
        return self._next

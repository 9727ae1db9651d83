"""The API server between clients and the scheduler: when requests are in, and when answers are out.

A request alone is underway for a time of its own. Of several that are underway together the server reads all before it
hands the first one on, so each makes that one come out later; then it hands on one after another.

What a step puts out is sent together, later for each request that has a token of it, and for each token of the prompts
whose first token it is: those are sent back with it.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heapify, heappop, heappush, nsmallest
from typing import Final

from rejoule.replay.sim.jobs import Job
from rejoule.replay.sim.profile import Timing

CROWD: Final = 128
"""How many it works on at once. On an H200's host the first of 256 requests came out as late as that of 128."""


class Arrivals:
    """The requests on their way to the scheduler. ``crowd_s`` is what each makes the others wait."""

    def __init__(self, crowd_s: float) -> None:
        self._crowd_s = crowd_s
        self._underway: list[tuple[float, int, float, Job]] = []
        self._read: deque[tuple[float, Job]] = deque()
        self._free_s = -math.inf
        self._next: tuple[float, int] | None = None

    def send(self, job: Job, sent_s: float, alone_s: float) -> None:
        """Take a request that, alone, would be out at ``alone_s``."""
        heappush(self._underway, (alone_s, job.number, sent_s, job))
        self._next = None

    def drop(self, job: Job) -> bool:
        """Forget a request; whether it was here."""
        before = len(self._underway) + len(self._read)
        self._underway = [entry for entry in self._underway if entry[-1] is not job]
        self._read = deque(entry for entry in self._read if entry[-1] is not job)
        heapify(self._underway)
        self._next = None
        return len(self._underway) + len(self._read) < before

    @property
    def out_s(self) -> float | None:
        """When the next one comes out, if none is sent before; ``None`` if there is none."""
        if self._read:
            return self._read[0][0]
        return self._crowd()[0] if self._underway else None

    def take(self, now_s: float) -> list[Job]:
        """Those that are out by ``now_s``, in the order in which they were sent."""
        found: list[Job] = []
        while (out_s := self.out_s) is not None and out_s <= now_s:
            if not self._read:
                self._read_all()
            found.append(self._read.popleft()[1])
        return found

    def _read_all(self) -> None:
        """The next ones are read, and it is known when each of them comes out."""
        out_s, count = self._crowd()
        for _ in range(count):
            alone_s, _, _, job = heappop(self._underway)
            out_s = max(out_s, alone_s)
            self._read.append((out_s, job))
            self._free_s = out_s = out_s + self._crowd_s
        self._next = None

    def _crowd(self) -> tuple[float, int]:
        """When the first of the next ones comes out, and how many they are."""
        if self._next is None:
            if not self._crowd_s:
                self._next = self._underway[0][0], 1
                return self._next
            first, *others = nsmallest(CROWD, self._underway)
            out_s, count = max(first[0], self._free_s), 1
            for _, _, sent_s, _ in others:
                if sent_s > out_s:
                    break
                out_s += self._crowd_s
                count += 1
            self._next = out_s, count
        return self._next


class Answers:
    """What the engine put out, on its way to the clients."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self.told_s = -math.inf
        """When clients have all that was put out so far."""

    def put(self, at_s: float, outputs: int, first_prompt_tokens: int) -> float:
        """When clients have the tokens of ``outputs`` requests that a step put out at ``at_s``.

        ``first_prompt_tokens`` are those of the prompts whose first token is among them. No step's come before those of
        the one before it; that a server which cannot keep up falls behind further with every step is left out.
        """
        timing = self._timing
        late_s = timing.api_per_output_s * outputs + timing.api_per_echoed_token_s * first_prompt_tokens
        self.told_s = max(self.told_s, at_s + timing.api_answer_s + late_s)
        return self.told_s

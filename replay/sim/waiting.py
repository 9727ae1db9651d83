"""The queue of requests that wait for a seat."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from rejoule.replay.sim.jobs import Job
from rejoule.replay.sim.limits import Policy


class WaitingQueue:
    """Requests in the order in which they are to be admitted: as they came, with preempted ones before, or of rank."""

    def __init__(self, policy: Policy) -> None:
        self._by_rank = policy == "priority"
        self._heap: list[tuple[tuple[int, float, int], Job]] = []
        self._front = self._back = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, job: Job) -> None:
        """Let a new request wait: behind all others, unless rank decides."""
        self._back += 1
        self._push(self._back, job)

    def put_back(self, job: Job) -> None:
        """Let a preempted request wait: before all others, unless rank decides."""
        self._front -= 1
        self._push(self._front, job)

    @property
    def first(self) -> Job | None:
        """The next one; ``None`` if nobody waits."""
        return self._heap[0][1] if self._heap else None

    def pop(self) -> Job:
        """Take the next one out. Raises IndexError if nobody waits."""
        return heappop(self._heap)[1]

    def remove(self, job: Job) -> None:
        """Take ``job`` out, if it is there."""
        self._heap = [entry for entry in self._heap if entry[1] is not job]
        heapify(self._heap)

    def jobs(self) -> list[Job]:
        """All of them, the next one first."""
        return [job for _, job in sorted(self._heap, key=lambda entry: entry[0])]

    def _push(self, place: int, job: Job) -> None:
        heappush(self._heap, (job.rank if self._by_rank else (place, 0.0, 0), job))

"""In which order waiting requests are admitted."""

from __future__ import annotations

from rejoule.replay.sim.jobs import Job, SimRequest
from rejoule.replay.sim.waiting import WaitingQueue


def jobs(*priorities: int) -> list[Job]:
    return [Job(SimRequest(f"r{i}", [1], 1, priority=p), float(i), i) for i, p in enumerate(priorities)]


def drained(queue: WaitingQueue) -> list[int]:
    return [queue.pop().number for _ in range(len(queue))]


def test_preempted_requests_go_first_the_last_one_before_all() -> None:
    """First come, first served, whenever they say that they arrived, but for those who had a seat already."""
    queue, (a, b, c, d) = WaitingQueue("fcfs"), jobs(0, 0, 0, 0)
    for job in (d, a):
        queue.add(job)
    queue.put_back(b)
    queue.put_back(c)
    assert [job.number for job in queue.jobs()] == [2, 1, 3, 0]
    assert drained(queue) == [2, 1, 3, 0]


def test_priorities_hold_for_preempted_requests_too() -> None:
    """By priority, then arrival; who was preempted has no advantage."""
    queue, (a, b, c, d) = WaitingQueue("priority"), jobs(1, 0, 1, 0)
    for job in (d, c, b):
        queue.add(job)
    queue.put_back(a)
    assert queue.first is b
    assert drained(queue) == [1, 3, 0, 2]


def test_removing_keeps_the_order_of_the_others() -> None:
    """One taken out of the middle leaves the rest in order; removing it again changes nothing."""
    queue, waiting = WaitingQueue("priority"), jobs(0, 0, 0, 0, 0)
    for job in reversed(waiting):
        queue.add(job)
    for _ in range(2):
        queue.remove(waiting[1])
    assert drained(queue) == [0, 2, 3, 4]

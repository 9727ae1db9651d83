"""The lock of a recording."""

from __future__ import annotations

import threading

from rejoule.graphs.capture.guard import Guard


def test_what_a_holder_puts_off_is_done_when_it_lets_go() -> None:
    """In the thread that holds it, in order, and what comes up meanwhile too; elsewhere at once."""
    guard, done = Guard(), list[str]()

    def first() -> None:
        done.append("first")
        guard.soon(lambda: done.append("third"))

    with guard:
        with guard:
            guard.soon(first)
            guard.soon(lambda: done.append("second"))
        assert done == []
        other = threading.Thread(target=guard.soon, args=[lambda: done.append("elsewhere")])
        other.start()
        other.join()
        assert done == ["elsewhere"]
    assert done == ["elsewhere", "first", "second", "third"]
    guard.soon(lambda: done.append("free"))
    assert done[-1] == "free"


def test_one_thread_at_a_time() -> None:
    """Nobody enters while another thread is inside, however deep."""
    guard, inside, most = Guard(), [0], [0]

    def work() -> None:
        for _ in range(300):
            with guard, guard:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]

"""The supervisor: reads an order, has a keeper run it, watches from outside, ends everything, and reports.

The order is a mapping on standard input, by marshal, which costs no import. The input stays open; its end means that
nobody waits any more. The report is a mapping on standard output: ``output``, and one of ``exit_code``, ``stopped``
(which limit) and ``refused`` (what part of the jail, and why).
"""

import marshal
import os
import select
import sys
import time

from . import namespaces
from .keeper import keep
from .kernel import PR_SET_CHILD_SUBREAPER, SIGKILL, Part, RefusedError, prctl
from .limits import GUARDS
from .processes import descendants, end_tree, held, held_apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TICK_S = 0.02
"""Between two looks at memory and processes."""
TAIL_BYTES = 8192
"""How much of the end of the output is kept."""
STDIN = 0


def main() -> None:
    """Runs one program."""
    order = marshal.load(sys.stdin.buffer)
    try:
        report = _supervise(order)
    except RefusedError as refused:
        report = {"refused": [refused.part, refused.reason]}
    marshal.dump(report, sys.stdout.buffer)


def _supervise(order: "Mapping[str, Any]") -> "dict[str, Any]":
    with Part("namespaces"):
        uid = namespaces.enter() if order["jailed"] else None
    # What a program leaves behind without a namespace of processes becomes a child of this one, and is found.
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    (alive, confirm), (output, print_), (told, say) = os.pipe(), os.pipe(), os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(confirm)
        keep(order, uid, alive, print_, say)
    for end in (alive, print_, say):
        os.close(end)
    os.write(confirm, b"!")
    watch = Watch(keeper, output, told, order["limits"])
    stopped = watch.until_it_ends()
    if order["jailed"]:
        # With the first process of a namespace end all others of it.
        os.kill(keeper, SIGKILL)
        os.waitpid(keeper, 0)
    else:
        end_tree(os.getpid())
    return watch.report(stopped)


class Watch:
    """What a program prints and holds, and how long it takes."""

    def __init__(self, keeper: int, output: int, told: int, limits: "Mapping[str, Any]") -> None:
        self.keeper, self.output, self.told, self.limits = keeper, output, told, limits
        self.printed, self.tail, self.said = 0, b"", b""
        os.set_blocking(output, False)

    def until_it_ends(self) -> str | None:
        """Waits for the keeper to end, or for a limit to be passed, whose name it gives."""
        poll = select.poll()
        for readable in (STDIN, self.output, self.told):
            poll.register(readable, select.POLLIN)
        end_s = time.monotonic() + self.limits["wall_s"]
        look_s = 0.0
        while True:
            ready = {fd for fd, _ in poll.poll(TICK_S * 1000)}
            if self.output in ready and not self._read():
                poll.unregister(self.output)
            if self.told in ready:
                if not (said := os.read(self.told, 4096)):
                    return None
                self.said += said
            if STDIN in ready:
                return "nobody waits"
            if self.printed > self.limits["file_bytes"]:
                return "output limit"
            now_s = time.monotonic()
            if now_s > end_s:
                return "time limit"
            if now_s > look_s:
                look_s = now_s + TICK_S
                if passed := self._passed():
                    return passed

    def report(self, stopped: str | None) -> "dict[str, Any]":
        """Of a program of which nothing runs any more."""
        while self._read():
            pass
        found: dict[str, Any] = {"output": self.tail.decode(errors="replace")}
        if self.said:
            found |= marshal.loads(self.said)
        return found if stopped is None else {**found, "stopped": stopped}

    def _read(self) -> int:
        """How many bytes were printed since; 0 where no more can come, or none are there."""
        try:
            fresh = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return 0
        self.printed += len(fresh)
        self.tail = (self.tail + fresh)[-TAIL_BYTES:]
        return len(fresh)

    def _passed(self) -> str | None:
        programs = [pid for pid in descendants(os.getpid()) if pid != self.keeper]
        threads, memory_bytes = held(programs)
        if threads > self.limits["processes"] + GUARDS:
            return "process limit"
        most = self.limits["memory_bytes"]
        return "memory limit" if memory_bytes > most and held_apart(programs) > most else None

"""Keeps one server, and sees to it that nothing of it outlives whoever asked for it.

A script of its own, with nothing but the standard library, so that it starts in milliseconds. Its standard input
brings one line of JSON, ``{"argv", "env", "log", "grace_s"}``, and then stays open for as long as the server is
wanted: however the other side ends, kill -9 included, the pipe closes. Standard output tells, line by line,
``{"started": pid}``, ``{"exited": status}`` and at last ``{"gone": true}``, once no process of the server is left.

The supervisor is a subreaper: a process whose parent died becomes its child. So every process that the server ever
started stays among its descendants, whatever session it moved to and whatever it did to its title or environment,
both of which vLLM's own processes overwrite.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ORPHANS_GRACE_S = 0.5
"""For what is left once the server itself has ended."""
TRACKER_GRACE_S = 1.0
"""For Python's resource tracker, which unlinks the shared memory of killed processes."""
ASKED_TO_END = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Keeps the server that standard input asks for."""
    line = _read_order()
    if line is None:
        return
    order = json.loads(line)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        tell(failed=f"cannot adopt processes: {os.strerror(ctypes.get_errno())}")
        return
    supervisor = Supervisor()
    try:
        supervisor.start(order)
    except OSError as error:
        tell(failed=error.strerror)
        return
    try:
        supervisor.watch()
        supervisor.wait_for_end(order["grace_s"])
    finally:
        supervisor.kill_all()
    tell(gone=True)


class Supervisor:
    """One server and everything below it."""

    def __init__(self) -> None:
        self._wake = _signals_as_bytes()
        self._server = 0
        self._running = False
        self._anybody = True

    def start(self, order: dict[str, Any]) -> None:
        """Starts the server in a session of its own. Raises OSError."""
        supervisor = os.getpid()

        def die_with_supervisor() -> None:
            # Without its supervisor a server could outlive everybody.
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != supervisor:
                os._exit(1)

        with Path(order["log"]).open("ab", buffering=0) as log:
            server = subprocess.Popen(
                order["argv"],
                env=order["env"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_supervisor,
            )
        server.returncode = 0  # reaped here, not by the object
        self._server, self._running = server.pid, True
        tell(started=server.pid)

    def watch(self) -> None:
        """Returns once the server ended by itself, or nobody wants it any more."""
        while self._running:
            readable, _, _ = select.select([0, self._wake], [], [])
            if 0 in readable or ASKED_TO_END.intersection(self._signals()):
                return
            self._reap()

    def wait_for_end(self, grace_s: float) -> None:
        """Asks the server to end, if it has not; then leaves what it leaves behind a while."""
        if self._running:
            _signal(self._server, signal.SIGTERM)
            self._wait(grace_s, lambda: not self._running)
        if not self._running:
            self._wait(ORPHANS_GRACE_S, lambda: not self._anybody)

    def _wait(self, limit_s: float, done: Callable[[], bool]) -> None:
        deadline_s = monotonic() + limit_s
        self._reap()
        while not done() and (left_s := deadline_s - monotonic()) > 0:
            select.select([self._wake], [], [], left_s)
            self._signals()
            self._reap()

    def kill_all(self) -> None:
        """Kills whoever is left, until nobody is."""
        began_s = monotonic()
        self._reap()
        while self._anybody:
            spare_trackers = monotonic() - began_s < TRACKER_GRACE_S
            for pid in descendants(os.getpid()):
                if not (spare_trackers and _is_tracker(pid)):
                    _signal(pid, signal.SIGKILL)
            select.select([self._wake], [], [], 0.05)
            self._signals()
            self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._anybody = False
                return
            if pid == 0:
                return
            if pid == self._server and self._running:
                self._running = False
                tell(exited=os.waitstatus_to_exitcode(status))

    def _signals(self) -> list[int]:
        try:
            return list(os.read(self._wake, 4096))
        except BlockingIOError:
            return []


def tell(**what: Any) -> None:
    """One line to whoever listens; it may be gone."""
    with suppress(OSError):
        os.write(1, json.dumps(what).encode() + b"\n")


def descendants(root: int) -> list[int]:
    """Processes below ``root``, by their parents in /proc."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(folder.name))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _read_order() -> bytes | None:
    data = b""
    while not data.endswith(b"\n"):
        more = os.read(0, 1 << 16)
        if not more:
            return None
        data += more
    return data


def _signals_as_bytes() -> int:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    for number in (signal.SIGCHLD, *ASKED_TO_END):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing)
    return reading


def _is_tracker(pid: int) -> bool:
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    main()

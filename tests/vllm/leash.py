"""Runs a command until standard input closes, then ends it with all that it started.

Its caller holds the other end of that pipe, which closes with the caller, however that ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from select import select

POLL_S = 0.1
GRACE_S = 10.0


def main() -> int:
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    while child.poll() is None and not select([sys.stdin], [], [], POLL_S)[0]:
        pass
    end(child)
    return child.wait()


def end(leader: subprocess.Popen[bytes]) -> None:
    """Asks every process of the leader's group to end, and kills what is left after ``GRACE_S``."""
    deadline = time.monotonic() + GRACE_S
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            time.sleep(POLL_S)
            leader.poll()
            os.killpg(leader.pid, 0)
        os.killpg(leader.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())

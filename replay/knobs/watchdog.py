"""Puts GPUs back once the process that changed them has ended, in whatever way.

``python -m rejoule.replay.knobs.watchdog FOLDER UUID...`` leads a session of its own, shares the GPUs' locks with the
process that it watches, and reads a pipe from it that carries nothing: however that process ends, kill -9 included,
the kernel closes the pipe once none of its threads can change a GPU any more.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import sleep
from typing import Final

from rejoule.replay.energy.nvml import GpuLost, open_nvml
from rejoule.replay.knobs import journal
from rejoule.replay.knobs.restore import put_back
from rejoule.traces.errors import RejouleError

READY: Final = b"ready\n"
START_TIMEOUT_S: Final = 30.0
END_TIMEOUT_S: Final = 60.0
ATTEMPTS: Final = 20
PAUSE_S: Final = 0.5


class Watchdog:
    """The watching process, seen from the watched one."""

    def __init__(self, folder: Path, uuids: Sequence[str], locks: Sequence[int]) -> None:
        """Starts it; ``locks`` are descriptors that it shares. Raises RejouleError if it does not come up."""
        with (folder / "watchdog.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __spec__.name, str(folder), *uuids],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=locks,
            )
        try:
            if not self._ready():
                raise RejouleError(
                    "the watchdog that puts GPUs back does not start, so nothing is changed",
                    f"see {folder / 'watchdog.log'}",
                )
        except BaseException:
            self._process.kill()
            self.close()
            raise

    def _ready(self) -> bool:
        assert self._process.stdout is not None
        waiting = select.poll()
        waiting.register(self._process.stdout, select.POLLIN)
        return bool(waiting.poll(START_TIMEOUT_S * 1000)) and self._process.stdout.readline() == READY

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Lets it do what is left to do, and waits for its end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(END_TIMEOUT_S)
        self._process.stdout.close()


def main(folder: Path, uuids: Sequence[str]) -> int:
    """Waits for the end of standard input, then puts back what has a journal; 1 if something could not be."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, READY)
    while os.read(0, 1024):
        pass
    left = list(uuids)
    for _ in range(ATTEMPTS):
        left = [uuid for uuid in left if not _put_back(folder, uuid)]
        if not left:
            return 0
        sleep(PAUSE_S)
    return 1


def _put_back(folder: Path, uuid: str) -> bool:
    try:
        found = journal.read(folder, uuid)
        if found is None:
            return True
        nvml = open_nvml([uuid])
        if nvml is None:
            raise RejouleError(f"{uuid} does not answer", "rejoule restore")
        with nvml:
            put_back(folder, nvml.gpus[0], found)
    except (RejouleError, GpuLost) as error:
        print(error, file=sys.stderr, flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

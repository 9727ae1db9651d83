"""Reads the GPUs' sensors at a fixed pace, in a process of its own that ends with whoever started it.

``python -m rejoule.replay.energy.sampler --out FILE`` writes what ``samples`` describes, until its standard input
closes. Reads are due at multiples of the period from the first; one that would be late by more is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, monotonic_ns, process_time_ns, time_ns
from types import TracebackType
from typing import Final, Self

import numpy as np

from rejoule.replay.energy.nvml import GpuLost, Nvml, open_nvml
from rejoule.replay.energy.samples import Samples, header, lost_record, read_samples, record
from rejoule.traces import RejouleError

PERIOD_S: Final = 0.023
"""Four reads in each interval of a counter that ticks every 100 ms, and never twice at the same place in it: so the
ticks' times come out finer than the period."""
START_S: Final = 20.0
TICK_S: Final = 0.3
"""Three intervals of the slowest counter known: how long to wait for a tick or two."""
NO_GPU: Final = 3
"""Exit status where there is nothing to sample."""


class Sampler:
    """Samples every GPU of this machine while the context is open; needs no event loop of its own.

    Starting it raises RejouleError if the process does not come up.
    """

    def __init__(self, path: Path, *, period_s: float = PERIOD_S, uuids: Sequence[str] | None = None) -> None:
        """``path`` is the file to write; ``uuids`` are the GPUs, all that this process may use if not given."""
        self.path = path
        self._arguments = ["--out", str(path), "--period-ms", str(period_s * 1e3)]
        self._arguments += [word for uuid in uuids or () for word in ("--uuid", uuid)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rejoule.replay.energy.sampler", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            await self._first_reads()
            await self.settle(ticks=2)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.to_thread(self._process.wait, 5.0)
        except subprocess.TimeoutExpired:  # a driver that hangs
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def samples(self, start_s: float | None = None, end_s: float | None = None) -> Samples:
        """What was read so far between two times of the monotonic clock."""
        return read_samples(self.path, start_s, end_s)

    async def settle(self, after_s: float | None = None, *, ticks: int = 1, timeout_s: float = TICK_S) -> bool:
        """Waits until every counter has ticked after ``after_s`` (now, if not given); False if one did not in time.

        ``timeout_s`` counts from ``after_s``.

        A GPU without a counter is not waited for.
        """
        since_s = monotonic() if after_s is None else after_s
        deadline_s = since_s + timeout_s
        while not _ticked(self.samples(since_s - TICK_S), since_s, ticks):
            if monotonic() > deadline_s or not self.alive:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _first_reads(self) -> None:
        assert self._process is not None
        deadline_s = monotonic() + START_S
        while True:
            if self.path.exists() and self.path.read_bytes()[:1] and self.samples().count:
                return
            if self._process.poll() is not None or monotonic() > deadline_s:
                log = self.path.with_suffix(".log").read_text(errors="replace").strip()
                said = log.splitlines()[-1] if log else "it said nothing"
                raise RejouleError(
                    f"the sampler of the GPUs' sensors does not start: {said}",
                    "see what works with rejoule doctor, or go without: --option sampler=false",
                )
            await asyncio.sleep(0.01)


def _ticked(samples: Samples, since_s: float, ticks: int) -> bool:
    for track in samples.gpus:
        energy = track.values("energy_mj")
        if not len(energy):
            return False
        if np.isnan(energy).all():
            continue
        changed = np.flatnonzero(np.diff(energy) > 0)
        # The tick lies between two reads: only a pair that begins after the time shows one after it.
        if (track.at_s[changed] >= since_s).sum() < ticks:
            return False
    return True


def sample(nvml: Nvml, out: int, period_ns: int) -> None:
    """Appends to the file descriptor ``out`` until standard input closes."""
    gpus = nvml.gpus
    names = [(gpu.uuid, gpu.name) for gpu in gpus]
    wall_us, start_ns = time_ns() // 1000, monotonic_ns()
    os.write(out, header(names, nvml.driver, period_ns, os.getpid(), start_ns, wall_us))
    due_ns = start_ns
    while True:
        late_ns = max(0, monotonic_ns() - due_ns)
        os.write(out, b"".join(_read(nvml, i, late_ns) for i in range(len(gpus))))
        now_ns = monotonic_ns()
        due_ns += max(1, -((due_ns - now_ns) // period_ns)) * period_ns
        if select.select([sys.stdin], [], [], max(0, due_ns - monotonic_ns()) / 1e9)[0] and not os.read(0, 4096):
            return


def _read(nvml: Nvml, index: int, late_ns: int) -> bytes:
    epoch_us, begun_ns = time_ns() // 1000, monotonic_ns()
    try:
        found = nvml.gpus[index].sample()
    except GpuLost:
        found = None
    end_ns, cpu_ns = monotonic_ns(), process_time_ns()
    if found is None:
        return lost_record(index, host_ns=begun_ns, epoch_us=epoch_us, end_ns=end_ns, late_ns=late_ns, cpu_ns=cpu_ns)
    return record(index, found, epoch_us=epoch_us, end_ns=end_ns, late_ns=late_ns, cpu_ns=cpu_ns)


def main(words: Sequence[str] | None = None) -> int:
    """Samples as the command line says; the process's exit status."""
    parser = argparse.ArgumentParser(description="Samples the GPUs' sensors until standard input closes.")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--period-ms", type=float, default=PERIOD_S * 1e3)
    parser.add_argument("--uuid", action="append", help="a GPU to sample; all if not given")
    given = parser.parse_args(words)
    # Ctrl-C reaches the whole group; the samples are wanted until whoever started this has finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nvml = open_nvml(given.uuid)
    if nvml is None:
        print("this machine has no NVIDIA GPU with a driver", file=sys.stderr)
        return NO_GPU
    with nvml, given.out.open("xb", buffering=0) as file:
        sample(nvml, file.fileno(), round(given.period_ms * 1e6))
    return 0


if __name__ == "__main__":
    sys.exit(main())

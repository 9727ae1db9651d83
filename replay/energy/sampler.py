"""Reads the GPUs' sensors at a fixed pace, in a process of its own that ends with whoever started it.

``python -m rejoule.replay.energy.sampler --out FILE`` writes what ``samples`` describes, until its standard input
closes. Reads are due at multiples of the period from the first; one that would be late by more is left out. Where the
energy counter is dear to read it is read apart from the rest (``counter_reads``), and each line on standard input asks
for the ticks around that moment.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, monotonic_ns, process_time_ns, time_ns
from types import TracebackType
from typing import Final, Self

import numpy as np

from rejoule.replay.energy.counter_reads import CounterReads
from rejoule.replay.energy.nvml import Gpu, GpuLost, Nvml, Sample, open_nvml
from rejoule.replay.energy.samples import Chain, Samples, header, lost_record, read_samples, record
from rejoule.traces import RejouleError

PERIOD_S: Final = 0.023
"""Four reads in each interval of a counter that ticks every 100 ms, and never twice at the same place in it: so the
ticks' times come out finer than the period."""
FRUGAL_PERIOD_S: Final = 0.047
"""Where reads are dear: two in each interval of a sensor that changes every 100 ms."""
DEAR_S: Final = 2e-4
"""Of CPU time: 1 % of a core, read every 23 ms."""
SLOW_S: Final = 2.0
"""How often to ask for what is slow to change or to read, where that is dear."""
TRIES: Final = 5
START_S: Final = 20.0
TICK_S: Final = 0.5
"""Five intervals of the slowest counter known: how long to wait for a tick or two."""
NO_GPU: Final = 3
"""Exit status where there is nothing to sample."""


class Sampler:
    """Samples every GPU of this machine while the context is open; needs no event loop of its own.

    Starting it raises RejouleError if the process does not come up.
    """

    def __init__(self, path: Path, *, period_s: float | None = None, uuids: Sequence[str] | None = None) -> None:
        """``path`` is the file to write; ``period_s`` follows from what reads cost if not given.

        ``uuids`` are the GPUs, all that this process may use if not given.
        """
        self.path = path
        self._arguments = ["--out", str(path)]
        self._arguments += [] if period_s is None else ["--period-ms", str(period_s * 1e3)]
        self._arguments += [word for uuid in uuids or () for word in ("--uuid", uuid)]
        self._process: subprocess.Popen[bytes] | None = None
        self._focused_s = -math.inf

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
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            await asyncio.to_thread(self._process.wait, 5.0)
        except subprocess.TimeoutExpired:  # a driver that hangs
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def samples(self, start_s: float | None = None, end_s: float | None = None) -> Samples:
        """What was read so far between two times of the monotonic clock."""
        return read_samples(self.path, start_s, end_s)

    def focus(self) -> None:
        """Asks for every counter's ticks around this moment, at which a window begins or ends."""
        self._focused_s = monotonic()
        assert self._process is not None and self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which its samples will show
            os.write(self._process.stdin.fileno(), b"\n")

    async def settle(self, after_s: float | None = None, *, ticks: int = 1, timeout_s: float = TICK_S) -> bool:
        """Waits until every counter has ticked after ``after_s`` (now, if not given); False if one did not in time.

        A GPU without a counter is not waited for.
        """
        since_s = monotonic() if after_s is None else after_s
        deadline_s = monotonic() + timeout_s
        if self._focused_s < since_s and not _ticked(self.samples(since_s - TICK_S), since_s, ticks):
            self.focus()
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
        known = ~np.isnan(energy)
        if not known.any():
            if track.tick_s is None:
                continue
            return False
        # The tick lies between two reads: only a pair that begins after the time shows one after it.
        changed = np.diff(energy[known]) > 0
        if (changed & (track.at_s[known][:-1] >= since_s)).sum() < ticks:
            return False
    return True


@dataclass(slots=True)
class _Sampled:
    """One GPU, and what of it is read apart."""

    gpu: Gpu
    reads: CounterReads | None
    """``None`` if every read takes the counter along."""
    dear_slow: bool
    slow_due_s: float = 0.0


class _Sampling:
    """Appends to the file descriptor ``out`` until standard input closes."""

    def __init__(self, nvml: Nvml, out: int, period_s: float | None) -> None:
        self._nvml = nvml
        self._out = out
        self._gpus = [_sampled(gpu) for gpu in nvml.gpus]
        dear = any(gpu.reads is not None for gpu in self._gpus)
        self._period_ns = round((period_s or (FRUGAL_PERIOD_S if dear else PERIOD_S)) * 1e9)
        self._chain = Chain()
        self._held: list[bytes] | None = []
        """Until every counter's period is known, which the first line tells."""

    def run(self) -> None:
        """Raises nothing that a GPU may do."""
        due_ns = monotonic_ns()
        while True:
            self._begin()
            counters = [(gpu.reads.due_s, i) for i, gpu in enumerate(self._gpus) if gpu.reads is not None]
            next_s, place = min(counters, default=(math.inf, 0))
            wait_s = min(next_s, due_ns / 1e9) - monotonic()
            if select.select([sys.stdin], [], [], max(0.0, wait_s))[0]:
                if not os.read(0, 4096):
                    self._begin(ready=True)
                    return
                self._focus(monotonic())
            elif next_s <= monotonic():
                self._count(place, round(next_s * 1e9))
            else:
                late_ns = max(0, monotonic_ns() - due_ns)
                self._write(b"".join(self._poll(i, late_ns) for i in range(len(self._gpus))))
                due_ns += max(1, -((due_ns - monotonic_ns()) // self._period_ns)) * self._period_ns

    def _begin(self, ready: bool = False) -> None:
        if self._held is None or not (ready or all(g.reads is None or not g.reads.bursting for g in self._gpus)):
            return
        names = [(g.gpu.uuid, g.gpu.name, _tick_s(g.reads)) for g in self._gpus]
        wall_us, now_ns = time_ns() // 1000, monotonic_ns()
        first = header(names, self._nvml.driver, self._period_ns, os.getpid(), now_ns, wall_us)
        os.write(self._out, b"".join([first, *self._held]))
        self._held = None

    def _write(self, records: bytes) -> None:
        records = self._chain.add(records)
        if self._held is None:
            os.write(self._out, records)
        else:
            self._held.append(records)

    def _focus(self, now_s: float) -> None:
        for gpu in self._gpus:
            gpu.slow_due_s = now_s
            if gpu.reads is not None:
                gpu.reads.focus(now_s)

    def _count(self, place: int, due_ns: int) -> None:
        gpu = self._gpus[place]
        assert gpu.reads is not None
        begun_ns = monotonic_ns()
        found, written = _read(place, gpu.gpu.energy, max(0, begun_ns - due_ns))
        gpu.reads.told(begun_ns / 1e9, monotonic(), None if found is None else found.energy_mj)
        self._write(written)

    def _poll(self, place: int, late_ns: int) -> bytes:
        gpu = self._gpus[place]
        slow = not gpu.dear_slow or monotonic() >= gpu.slow_due_s
        if slow:
            gpu.slow_due_s = monotonic() + SLOW_S
        return _read(place, lambda: gpu.gpu.sample(counter=gpu.reads is None, slow=slow), late_ns)[1]


def _sampled(gpu: Gpu) -> _Sampled:
    """By what reads cost beyond the rest."""
    try:
        least_s = _took_s(lambda: gpu.sample(counter=False, slow=False))
        counter_s = _took_s(lambda: gpu.sample(slow=False)) - least_s
        slow_s = _took_s(lambda: gpu.sample(counter=False)) - least_s
    except GpuLost:
        return _Sampled(gpu, None, dear_slow=False)
    reads = CounterReads(counter_s, monotonic()) if counter_s > DEAR_S else None
    return _Sampled(gpu, reads, dear_slow=slow_s > DEAR_S)


def _took_s(read: Callable[[], object]) -> float:
    """The median over a few tries."""
    took = []
    for _ in range(TRIES):
        begun_s = monotonic()
        read()
        took.append(monotonic() - begun_s)
    return sorted(took)[TRIES // 2]


def _tick_s(reads: CounterReads | None) -> float | None:
    return None if reads is None or reads.pace is None else reads.pace.period_s


def _read(place: int, read: Callable[[], Sample], late_ns: int) -> tuple[Sample | None, bytes]:
    """What a read told, ``None`` if the GPU is lost, and its record."""
    epoch_us, begun_ns = time_ns() // 1000, monotonic_ns()
    try:
        found = read()
    except GpuLost:
        found = None
    end_ns, cpu_ns = monotonic_ns(), process_time_ns()
    if found is None:
        return None, lost_record(
            place, host_ns=begun_ns, epoch_us=epoch_us, end_ns=end_ns, late_ns=late_ns, cpu_ns=cpu_ns
        )
    return found, record(place, found, epoch_us=epoch_us, end_ns=end_ns, late_ns=late_ns, cpu_ns=cpu_ns)


def main(words: Sequence[str] | None = None) -> int:
    """Samples as the command line says; the process's exit status."""
    parser = argparse.ArgumentParser(description="Samples the GPUs' sensors until standard input closes.")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--period-ms", type=float, help="between reads; by what they cost if not given")
    parser.add_argument("--uuid", action="append", help="a GPU to sample; all if not given")
    given = parser.parse_args(words)
    # Ctrl-C reaches the whole group; the samples are wanted until whoever started this has finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nvml = open_nvml(given.uuid)
    if nvml is None:
        print("this machine has no NVIDIA GPU with a driver", file=sys.stderr)
        return NO_GPU
    with nvml, given.out.open("xb", buffering=0) as file:
        _Sampling(nvml, file.fileno(), given.period_ms and given.period_ms / 1e3).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

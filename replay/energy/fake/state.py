"""The state of stand-in GPUs in files that processes share: whoever is killed at whatever moment, it stays whole.

A folder holds ``state``, with two slots of which writers fill the older, and for each GPU a log of points. A slot
counts if its checksum holds; what lies in a log beyond the count that the state gives is not there.
"""

from __future__ import annotations

import fcntl
import os
import weakref
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from threading import RLock
from time import monotonic_ns
from typing import Final, Literal

import msgspec

from rejoule.replay.energy.fake.gpu import FakeGpu

SLOT: Final = 1 << 20
HEAD: Final = Struct("<QII")
"""Number of the write, length and checksum of what it wrote."""


@dataclass(frozen=True, slots=True)
class Load:
    """What something asks of a GPU: the power it would draw, and the SM clock at which it would draw it."""

    watts: float
    sm_clock_mhz: float | None = None
    cap_bound: bool = False


class GpuState(msgspec.Struct):
    spec: FakeGpu
    requested_w: float
    accepted_w: float
    """The last requested limit that took effect."""
    locked_mhz: int | None = None
    brake_w: float | None = None
    load: Load | None = None
    points: int = 0
    resets_ns: list[int] = []
    """When the energy counter began anew, ascending."""


class Fault(msgspec.Struct):
    """Something that goes wrong from ``at_ns`` to ``until_ns``, or for so many calls."""

    kind: Literal["lost", "unloaded", "silent", "slow"]
    at_ns: int
    until_ns: int | None = None
    gpu: int | None = None
    """``None`` is all of them."""
    what: int | str | None = None
    """Which field or function."""
    seconds: float = 0.0
    calls: int | None = None
    applied: bool = False

    def holds(self, now_ns: int, gpu: int | None) -> bool:
        return (
            self.at_ns <= now_ns
            and (self.until_ns is None or now_ns < self.until_ns)
            and (self.gpu is None or self.gpu == gpu)
            and self.calls != 0
        )


class State(msgspec.Struct):
    driver: str
    start_ns: int
    wall_offset_ns: int
    """Nanoseconds since the epoch at zero of the clock."""
    gpus: list[GpuState]
    virtual_ns: int | None = None
    """The clock, where it only moves when told to."""
    faults: list[Fault] = []

    @property
    def now_ns(self) -> int:
        return monotonic_ns() if self.virtual_ns is None else self.virtual_ns


class Store:
    """The files of one folder; ``locked`` gives the state to one thread of one process at a time."""

    _state: State | None

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError if nothing was created there."""
        self.folder = folder
        self._open()

    @classmethod
    def create(cls, folder: Path, state: State) -> Store:
        """Raises FileExistsError if there is one already."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "state").open("xb"):
            pass
        for index in range(len(state.gpus)):
            (folder / f"gpu-{index}").touch()
        store = cls(folder)
        store._state = state
        return store

    @contextmanager
    def locked(self) -> Iterator[State]:
        """The state, to be read or changed; ``save`` keeps a change."""
        if self._pid != os.getpid():  # a fork shares the lock of its parent's file
            self._open()
        with self._threads:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield self._load()
            except BaseException:
                self._state = None  # perhaps half changed, and not saved
                raise
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def save(self, state: State) -> None:
        """To be called within ``locked``, with the state that it gave."""
        payload = msgspec.json.encode(state)
        if len(payload) > SLOT - HEAD.size:
            raise ValueError(f"the stand-in's state takes {len(payload)} bytes: give it shorter scenarios")
        self._number += 1
        at = (self._number % 2) * SLOT
        os.pwrite(self._file, payload, at + HEAD.size)
        os.pwrite(self._file, HEAD.pack(self._number, len(payload), zlib.crc32(payload)), at)

    def append(self, gpu: int, at: int, records: bytes) -> None:
        """Writes to a GPU's log from byte ``at``; counted only once the state that counts them is saved."""
        os.pwrite(self._logs[gpu], records, at)

    def read(self, gpu: int, at: int, size: int) -> bytes:
        return os.pread(self._logs[gpu], size, at)

    def _open(self) -> None:
        self._pid = os.getpid()
        self._threads = RLock()
        self._file = os.open(self.folder / "state", os.O_RDWR | os.O_CLOEXEC)
        names = sorted(self.folder.glob("gpu-*"), key=lambda path: int(path.name[4:]))
        self._logs = [os.open(name, os.O_RDWR | os.O_CLOEXEC) for name in names]
        weakref.finalize(self, _close, (self._file, *self._logs))
        self._number = 0
        self._state = None

    def _load(self) -> State:
        heads = [HEAD.unpack(os.pread(self._file, HEAD.size, at).ljust(HEAD.size, b"\0")) for at in (0, SLOT)]
        for at, (number, length, checksum) in sorted(zip((0, SLOT), heads, strict=True), key=lambda s: -s[1][0]):
            if self._state is not None and number == self._number:
                return self._state
            payload = os.pread(self._file, length, at + HEAD.size)
            if length and zlib.crc32(payload) == checksum:
                self._number, self._state = number, msgspec.json.decode(payload, type=State)
                return self._state
        if self._state is None:
            raise FileNotFoundError(f"{self.folder} holds no stand-in for NVML")
        return self._state


def _close(files: Iterable[int]) -> None:
    for file in files:
        os.close(file)

"""What the GPUs' sensors said, as the sampler wrote it: one line of JSON, then records of one size.

The line holds ``gpus`` (a list of ``uuid``, ``name`` and ``tick_s``; a record names its GPU by the place in it),
``driver``, ``period_ns``, ``pid``, and ``monotonic_ns`` with ``wall_us``, the two clocks read at one moment. Each read
of each GPU appends one ``RECORD`` of what was read, in one write: whenever the sampler ends, all records but perhaps
the last are whole. The line states its digest, and each record a checksum of all records so far.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Annotated, Any, Final
from zlib import crc32

import msgspec
import numpy as np

from rejoule.traces import RejouleError
from rejoule.traces.decoding import DamagedError, decoded
from rejoule.traces.seal import sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rejoule.replay.energy.nvml import Sample

FORMAT_VERSION: Final = 2
SEALED: Final = 2
"""The version from which on there are checksums."""
COUNTS: Final = (
    "gpu",
    "host_ns",  # time.monotonic_ns when the read began
    "end_ns",  # and when it had ended
    "epoch_us",  # the wall clock when it began
    "wall_us",  # the driver's timestamp of the energy field, on the wall clock
    "energy_mj",
    "reasons",  # NVML's mask of clock event reasons
    "cap_ns",  # so long has the power cap held the clocks down, heat, a power brake
    "thermal_ns",
    "brake_ns",
    "late_ns",  # after the read was due
    "cpu_ns",  # CPU time that the sampler has used so far
    "lost",  # 1 if the GPU did not answer at all
)
"""Columns of whole numbers; -1 is missing."""
VALUES: Final = (
    "power_w",  # of the last instant
    "average_w",  # of the last second
    "hbm_w",
    "limit_w",  # in force
    "sm_clock_mhz",
    "memory_clock_mhz",
    "temperature_c",
)
"""Columns of numbers; NaN is missing."""
_COLUMNS: Final = [*((name, "<i8") for name in COUNTS), *((name, "<f4") for name in VALUES)]
_PLAIN: Final = np.dtype(_COLUMNS)
"""A record of the first version."""
RECORD: Final = np.dtype([*_COLUMNS, ("check", "<u4")])
"""``check`` is zlib's CRC-32 of the bytes before it in the record, beginning with the ``check`` of the one before."""
_PACKED: Final = Struct(f"<{len(COUNTS)}q{len(VALUES)}f")
MISSING: Final = -1
NAN: Final = float("nan")


class _HeadGpu(msgspec.Struct, frozen=True):
    uuid: str
    name: str
    tick_s: float | None = None


class _Head(msgspec.Struct, frozen=True):
    """The first line."""

    rejoule_samples: int
    gpus: tuple[_HeadGpu, ...]
    driver: str
    period_ns: Annotated[int, msgspec.Meta(gt=0)]
    pid: int
    monotonic_ns: int
    wall_us: int


_head: Final = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Track:
    """The reads of one GPU in order of time."""

    uuid: str
    name: str
    records: np.ndarray[Any, np.dtype[np.void]]
    """Of dtype ``RECORD``."""
    tick_s: float | None = None
    """Roughly the energy counter's period, where it is not read at every tick."""

    @property
    def at_s(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """When each read began, in seconds of the monotonic clock."""
        return np.asarray(self.records["host_ns"], dtype=np.float64) / 1e9

    def values(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """A column as floats, NaN where it is missing."""
        column = self.records[name]
        if name in VALUES:
            return column.astype(np.float64)
        return np.where(column == MISSING, np.nan, column.astype(np.float64))


@dataclass(frozen=True, slots=True)
class Samples:
    """A stretch of what the sampler wrote."""

    driver: str
    period_s: float
    pid: int
    wall_offset_s: float
    """Seconds since the epoch at zero of the monotonic clock."""
    gpus: tuple[Track, ...]

    def between(self, start_s: float, end_s: float) -> Samples:
        """The samples between two times of the monotonic clock."""
        cut = (replace(t, records=t.records[(t.at_s >= start_s) & (t.at_s <= end_s)]) for t in self.gpus)
        return replace(self, gpus=tuple(cut))

    @property
    def count(self) -> int:
        return sum(len(track.records) for track in self.gpus)

    @property
    def cpu_share(self) -> float | None:
        """CPU time of the sampler for each second, over these samples; ``None`` of less than two reads."""
        ends = [(t.records[0], t.records[-1]) for t in self.gpus if len(t.records) > 1]
        if not ends:
            return None
        first, last = min(e[0]["host_ns"] for e in ends), max(e[1]["host_ns"] for e in ends)
        used = max(e[1]["cpu_ns"] for e in ends) - min(e[0]["cpu_ns"] for e in ends)
        return float(used) / float(last - first)

    def lateness_s(self, share: float) -> float | None:
        """How late that share of the reads was at most; ``None`` without any."""
        late = np.concatenate([t.records["late_ns"] for t in self.gpus] or [np.empty(0)])
        return float(np.quantile(late, share)) / 1e9 if len(late) else None


def header(
    gpus: Sequence[tuple[str, str, float | None]],
    driver: str,
    period_ns: int,
    pid: int,
    monotonic_ns: int,
    wall_us: int,
) -> bytes:
    """The first line of a file; ``gpus`` are UUID, name and ``Track.tick_s`` of each."""
    return (
        sealed(
            {
                "rejoule_samples": FORMAT_VERSION,
                "gpus": [{"uuid": uuid, "name": name, "tick_s": tick_s} for uuid, name, tick_s in gpus],
                "driver": driver,
                "period_ns": period_ns,
                "pid": pid,
                "monotonic_ns": monotonic_ns,
                "wall_us": wall_us,
            },
            option=0,
        )
        + b"\n"
    )


def record(gpu: int, sample: Sample, *, epoch_us: int, end_ns: int, late_ns: int, cpu_ns: int) -> bytes:
    """One read of one GPU, for a ``Chain``."""
    s = sample
    return _PACKED.pack(
        gpu, s.host_ns, end_ns, epoch_us, s.wall_us, _count(s.energy_mj), _count(s.reasons), _count(s.cap_ns),
        _count(s.thermal_ns), _count(s.brake_ns), late_ns, cpu_ns, 0,
        _value(s.power_w), _value(s.average_w), _value(s.hbm_w), _value(s.limit_w), _value(s.sm_clock_mhz),
        _value(s.memory_clock_mhz), _value(s.temperature_c),
    )  # fmt: skip


def lost_record(gpu: int, *, host_ns: int, epoch_us: int, end_ns: int, late_ns: int, cpu_ns: int) -> bytes:
    """A read to which the GPU gave no answer."""
    nothing = [MISSING] * 6
    return _PACKED.pack(gpu, host_ns, end_ns, epoch_us, *nothing, late_ns, cpu_ns, 1, *[NAN] * len(VALUES))


def read_samples(path: Path, start_s: float | None = None, end_s: float | None = None) -> Samples:
    """The samples of a file from ``start_s`` to ``end_s`` of the monotonic clock; a torn end is left out.

    Raises RejouleError if the file holds no samples, or others than were written.
    """
    try:
        with path.open("rb") as file:
            head = _head_of(file.readline())
            at = file.tell()
        if head.rejoule_samples > FORMAT_VERSION:
            raise RejouleError(f"{path} has samples of format {head.rejoule_samples}", "use a newer ReJoule")
        kind = RECORD if head.rejoule_samples >= SEALED else _PLAIN
        count = (path.stat().st_size - at) // kind.itemsize
        records = np.memmap(path, kind, "r", at, (count,)) if count else np.empty(0, kind)
    except (OSError, DamagedError) as error:
        raise RejouleError(f"{path} holds no samples: {error}", "give a .samples file of a run folder") from error

    def begun_s(at: int) -> float:
        _check(path, records, at, at + 1)
        return float(records[at]["host_ns"]) / 1e9

    first = 0 if start_s is None else bisect_left(range(count), start_s, key=begun_s)
    last = count if end_s is None else bisect_right(range(count), end_s, key=begun_s)
    _check(path, records, first, last)
    records = np.array(records[first:last])
    return Samples(
        driver=head.driver,
        period_s=head.period_ns / 1e9,
        pid=head.pid,
        wall_offset_s=head.wall_us / 1e6 - head.monotonic_ns / 1e9,
        gpus=tuple(
            Track(gpu.uuid, gpu.name, records[records["gpu"] == i], gpu.tick_s) for i, gpu in enumerate(head.gpus)
        ),
    )


def _head_of(line: bytes) -> _Head:
    """The first line, checked. Raises DamagedError."""
    body = decoded(line, _head)
    version = body.get("rejoule_samples")
    plain = unsealed(body, required=isinstance(version, int) and version >= SEALED)
    try:
        return msgspec.convert(plain, _Head)
    except msgspec.ValidationError as error:
        raise DamagedError(str(error)) from None


class Chain:
    """Puts records into a file's form, in the order in which they are written to it."""

    def __init__(self) -> None:
        self._check = 0

    def add(self, records: bytes) -> bytes:
        """What to write of some that ``record`` or ``lost_record`` made."""
        written = bytearray()
        for at in range(0, len(records), _PACKED.size):
            packed = records[at : at + _PACKED.size]
            self._check = crc32(packed, self._check)
            written += packed + self._check.to_bytes(4, "little")
        return bytes(written)


def _check(path: Path, records: np.ndarray[Any, np.dtype[np.void]], first: int, last: int) -> None:
    """Raises RejouleError if those from ``first`` to before ``last`` are not what was written."""
    if records.dtype != RECORD or first >= last:
        return
    before = int(records[first - 1]["check"]) if first else 0
    found = records[first:last]
    body, size = memoryview(found.tobytes()), RECORD.itemsize
    for i, wanted in enumerate(found["check"].tolist()):
        if crc32(body[i * size : (i + 1) * size - 4], before) != wanted:
            raise RejouleError(f"{path}: sample {first + i + 1} is not what the sampler wrote", "repeat the run")
        before = wanted


def _count(value: int | None) -> int:
    return MISSING if value is None else value


def _value(value: float | None) -> float:
    return NAN if value is None else value

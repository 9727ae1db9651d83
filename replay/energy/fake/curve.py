"""The true power of a stand-in GPU over time, and all that follows from it in closed form.

A point says what holds from its start until the next point: power and clocks are constant in between, energy and
counters grow linearly, and the temperature goes to what the power would keep, by first order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import exp, inf, log
from struct import Struct
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from rejoule.replay.energy.fake.gpu import FakeGpu
from rejoule.replay.energy.fake.scenario import SECOND_NS
from rejoule.replay.energy.fake.state import GpuState, Load, Store

IDLE: Final = 0x01
CAP: Final = 0x04
THERMAL: Final = 0x20
BRAKE: Final = 0x80
"""Clock event reasons, as NVML numbers them."""
NEARLY_K: Final = 1e-6


class Point(NamedTuple):
    """What holds from ``start_ns`` on; energy, counters and temperature are those at the start."""

    start_ns: int
    power_w: float
    clock_mhz: float
    reasons: int
    energy_j: float
    cap_ns: int
    thermal_ns: int
    brake_ns: int
    temperature_c: float

    def energy_at(self, ns: int) -> float:
        return self.energy_j + self.power_w * (ns - self.start_ns) / SECOND_NS

    def counted_ns(self, reason: int, ns: int) -> int:
        """How long that reason has held, until ``ns``."""
        count = {CAP: self.cap_ns, THERMAL: self.thermal_ns, BRAKE: self.brake_ns}[reason]
        return count + max(0, ns - self.start_ns) * bool(self.reasons & reason)

    def temperature_at(self, spec: FakeGpu, ns: int) -> float:
        final_c = kept_c(spec, self.power_w)
        return final_c + (self.temperature_c - final_c) * exp(-max(0, ns - self.start_ns) / 1e9 / spec.heat_lag_s)

    def hot_ns(self, spec: FakeGpu) -> float:
        """When it will be so hot that heat holds it down, if it goes on like this; infinity if never."""
        final_c = kept_c(spec, self.power_w)
        if final_c <= spec.throttle_c + NEARLY_K or self.reasons & THERMAL:
            return inf
        share = (final_c - self.temperature_c) / (final_c - spec.throttle_c)
        return self.start_ns + max(1.0, spec.heat_lag_s * log(max(1.0, share)) * SECOND_NS)


_CODES: Final = "qddqdqqqd"
"""``struct``'s types of a point's fields."""
PACKED: Final = Struct(f"<{_CODES}")
RECORD: Final = np.dtype([(name, f"<{code}") for name, code in zip(Point._fields, _CODES, strict=True)])


def kept_c(spec: FakeGpu, power_w: float) -> float:
    """The temperature at which that power would settle."""
    return spec.ambient_c + spec.kelvin_per_w * power_w


def first_point(gpu: GpuState, start_ns: int) -> Point:
    spec = gpu.spec
    temperature_c = kept_c(spec, spec.idle_w) if spec.start_c is None else spec.start_c
    load = asked(gpu, 0)[0]
    return Point(start_ns, *held(gpu, load, temperature_c), 0.0, 0, 0, 0, temperature_c)


def next_point(gpu: GpuState, last: Point, ns: int, origin_ns: int) -> Point:
    """The point that follows at ``ns`` under the load and the settings that hold then."""
    temperature_c = last.temperature_at(gpu.spec, ns)
    power_w, clock_mhz, reasons = held(gpu, asked(gpu, ns - origin_ns)[0], temperature_c)
    return Point(
        start_ns=ns,
        power_w=power_w,
        clock_mhz=clock_mhz,
        reasons=reasons,
        energy_j=last.energy_at(ns),
        cap_ns=last.counted_ns(CAP, ns),
        thermal_ns=last.counted_ns(THERMAL, ns),
        brake_ns=last.counted_ns(BRAKE, ns),
        temperature_c=temperature_c,
    )


def next_change_ns(gpu: GpuState, last: Point, origin_ns: int) -> float:
    """When the next point is due if nobody changes anything; infinity if never."""
    until_ns = asked(gpu, last.start_ns - origin_ns)[1]
    return min(inf if until_ns is None else origin_ns + until_ns, last.hot_ns(gpu.spec))


def asked(gpu: GpuState, ns: int) -> tuple[Load, int | None]:
    """The load ``ns`` after the start, and until when it holds."""
    if gpu.load is not None:
        return gpu.load, None
    if gpu.spec.scenario is None:
        return Load(gpu.spec.idle_w), None
    watts, until_ns = gpu.spec.scenario.at(ns)
    return Load(watts), until_ns


def in_force_w(gpu: GpuState) -> float:
    """The power limit that the GPU keeps to."""
    return min(gpu.accepted_w, inf if gpu.spec.node_limit_w is None else gpu.spec.node_limit_w)


def held(gpu: GpuState, load: Load, temperature_c: float) -> tuple[float, float, int]:
    """Power in watts, SM clock in MHz and the clock event reasons of a load.

    A plain model, chosen to be followed by hand: what is drawn above idle is proportional to the SM clock; a lock
    sets the clock, and the lowest of the ceilings (power limit, brake, heat) lowers it until the power fits.
    """
    spec = gpu.spec
    clock_mhz = load.sm_clock_mhz or float(spec.max_sm_mhz)
    demand_w = load.watts
    if gpu.locked_mhz is not None and gpu.locked_mhz < clock_mhz:
        demand_w = spec.idle_w + max(0.0, demand_w - spec.idle_w) * gpu.locked_mhz / clock_mhz
        clock_mhz = float(gpu.locked_mhz)
    ceilings = [(in_force_w(gpu), CAP)]
    if gpu.brake_w is not None:
        ceilings.append((gpu.brake_w, BRAKE))
    if temperature_c >= spec.throttle_c - NEARLY_K:
        ceilings.append(((spec.throttle_c - spec.ambient_c) / spec.kelvin_per_w, THERMAL))
    ceiling_w, reason = min(ceilings)
    if demand_w > ceiling_w:
        share = (ceiling_w - spec.idle_w) / (demand_w - spec.idle_w) if demand_w > spec.idle_w else 1.0
        return ceiling_w, max(float(spec.min_sm_mhz), clock_mhz * share), reason
    if load.cap_bound:
        return demand_w, clock_mhz, CAP
    return demand_w, clock_mhz, IDLE if demand_w <= spec.idle_w else 0


class Log:
    """The points of one GPU as they are stored; looked up by time."""

    def __init__(self, store: Store, gpu: int, count: int) -> None:
        self._store = store
        self._gpu = gpu
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Point:
        return Point(*PACKED.unpack(self._store.read(self._gpu, index * PACKED.size, PACKED.size)))

    def at(self, ns: int) -> Point:
        """The point that holds at ``ns``; the first one before it."""
        return self[self._place(ns)]

    def energy_j(self, ns: int) -> float:
        return self.at(ns).energy_at(ns)

    def arrays(self, start_ns: int, end_ns: int) -> Arrays:
        """The points that hold between two times."""
        first, last = self._place(start_ns), self._place(end_ns)
        return Arrays(self._store.read(self._gpu, first * PACKED.size, (last + 1 - first) * PACKED.size))

    def append(self, points: Sequence[Point]) -> int:
        """The number of points with these."""
        at = self._count * PACKED.size
        self._store.append(self._gpu, at, b"".join(PACKED.pack(*point) for point in points))
        self._count += len(points)
        return self._count

    def _place(self, ns: int) -> int:
        # Backwards from the end in growing steps: most looks are at the last second.
        low, back = self._count - 1, 1
        while low > 0 and self[low].start_ns > ns:
            low, back = max(0, low - back), back * 2
        high = min(self._count, low + back)
        return max(0, bisect_right(range(low, high), ns, key=lambda i: self[i].start_ns) + low - 1)


class Arrays:
    """The same curve for many times at once."""

    def __init__(self, records: bytes) -> None:
        found = np.frombuffer(records, RECORD)
        self._columns = {name: np.ascontiguousarray(found[name]) for name in RECORD.names or ()}

    def energy_j(self, ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """True joules at times ascending or not."""
        c, index = self._columns, self._place(ns)
        return np.asarray(c["energy_j"][index] + c["power_w"][index] * (ns - c["start_ns"][index]) / SECOND_NS)

    def column(self, name: str, ns: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """A column of ``RECORD`` as it holds at these times, from the start of each point."""
        return np.asarray(self._columns[name][self._place(ns)])

    def counted_ns(self, name: str, reason: int, ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        c, index = self._columns, self._place(ns)
        since = np.maximum(0, ns - c["start_ns"][index]) * ((c["reasons"][index] & reason) != 0)
        return np.asarray(c[name][index] + since)

    def temperature_c(self, spec: FakeGpu, ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        c, index = self._columns, self._place(ns)
        final = spec.ambient_c + spec.kelvin_per_w * c["power_w"][index]
        gone_s = np.maximum(0, ns - c["start_ns"][index]) / 1e9
        return np.asarray(final + (c["temperature_c"][index] - final) * np.exp(-gone_s / spec.heat_lag_s))

    def _place(self, ns: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        return np.maximum(0, np.searchsorted(self._columns["start_ns"], ns, side="right") - 1)

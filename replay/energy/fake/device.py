"""A handle on stand-in GPUs: makes them, loads them, breaks them, and tells what is true of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from os import PathLike
from pathlib import Path
from time import monotonic_ns, time_ns
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from rejoule.replay.energy.fake import curve
from rejoule.replay.energy.fake.calls import KNOWN
from rejoule.replay.energy.fake.curve import Log, first_point, in_force_w
from rejoule.replay.energy.fake.gpu import FakeGpu
from rejoule.replay.energy.fake.scenario import SECOND_NS
from rejoule.replay.energy.fake.sensors import Sensors
from rejoule.replay.energy.fake.state import Fault, GpuState, Load, State, Store
from rejoule.replay.energy.fake.timeline import changed, current
from rejoule.replay.energy.variables import FAKE
from rejoule.traces import RejouleError

Kind = Literal["lost", "unloaded", "silent", "slow"]
DRIVER: Final = "580.159.03"
START_NS: Final = 1_000 * SECOND_NS
"""Where a virtual clock starts, and its epoch."""
EPOCH_NS: Final = 1_700_000_000 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a GPU at a moment."""

    power_w: float
    sm_clock_mhz: float
    temperature_c: float
    energy_j: float
    """Since it was created."""
    requested_w: float
    in_force_w: float
    locked_mhz: int | None
    bound_s: float
    """How long its power limit has bound."""
    cap_bound: bool


@dataclass(frozen=True, slots=True)
class Sensed:
    """What the sensors of a GPU would have said at each of some times, as NVML gives it."""

    energy_mj: npt.NDArray[np.int64]
    power_w: npt.NDArray[np.float64]
    average_w: npt.NDArray[np.float64]
    hbm_w: npt.NDArray[np.float64]
    sm_clock_mhz: npt.NDArray[np.float64]
    temperature_c: npt.NDArray[np.float64]
    reasons: npt.NDArray[np.int64]
    cap_ns: npt.NDArray[np.int64]
    thermal_ns: npt.NDArray[np.int64]
    brake_ns: npt.NDArray[np.int64]


class FakeNvml:
    """The stand-in GPUs of one folder, which any number of processes may use at once.

    Seconds given as ``after_s`` count from the call; GPUs are named by their index.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        """Raises FileNotFoundError if ``create`` made nothing there."""
        self.path = Path(path)
        self._store = Store(self.path)

    @property
    def environment(self) -> dict[str, str]:
        """What to set for a process that shall see these GPUs."""
        return {FAKE: str(self.path)}

    @property
    def now_ns(self) -> int:
        """The clock that reads are stamped with: ``time.monotonic_ns``, or the virtual one."""
        with self._store.locked() as state:
            return state.now_ns

    def advance_s(self, seconds: float) -> int:
        """Moves a virtual clock on; the time then. Raises ValueError for a real one."""
        with self._store.locked() as state:
            if state.virtual_ns is None:
                raise ValueError("these GPUs follow the real clock: create(..., virtual=True) has one to move")
            state.virtual_ns += round(seconds * SECOND_NS)
            self._store.save(state)
            return state.virtual_ns

    def drive(
        self, gpu: int, watts: float, *, sm_clock_mhz: float | None = None, cap_bound: bool = False
    ) -> tuple[float, int | None]:
        """From here on something asks the GPU for that power, at that SM clock if it does not run at its highest.

        ``cap_bound`` says that the load already keeps to the limit, and would draw more without it; above the limit
        the GPU is bound anyway. Gives what the load has to keep to: the power limit in force in watts, and the locked
        SM clock in MHz if there is one.
        """
        load = Load(watts, sm_clock_mhz, cap_bound)
        with changed(self._store, gpu) as found:
            found.load = load
            return in_force_w(found), found.locked_mhz

    def change(self, gpu: int, **options: Any) -> None:
        """From here on the GPU is another in these fields of ``FakeGpu``: ``mig=True``, ``processes=(pid,)`` …"""
        with changed(self._store, gpu) as found:
            found.spec = replace(found.spec, **options)

    def request_limit_w(self, gpu: int, watts: float) -> None:
        """Somebody else asks for that power limit; nothing is checked."""
        with changed(self._store, gpu) as found:
            found.requested_w = watts
            if not found.spec.ignores_limit:
                found.accepted_w = watts

    def lock_clock_mhz(self, gpu: int, mhz: int | None) -> None:
        """Somebody else locks the SM clock; ``None`` unlocks it."""
        with changed(self._store, gpu) as found:
            found.locked_mhz = mhz

    def brake(self, gpu: int, watts: float | None) -> None:
        """A hardware power brake holds the GPU to that power; ``None`` lets it go."""
        with changed(self._store, gpu) as found:
            found.brake_w = watts

    def lose(self, gpu: int, after_s: float = 0.0) -> None:
        """The GPU falls off the bus."""
        self._inject("lost", after_s, gpu=gpu)

    def unload(self, after_s: float = 0.0, for_s: float | None = None) -> None:
        """The driver goes, and with it limits, clock locks and the counters' starts; it may come back."""
        self._inject("unloaded", after_s, for_s=for_s)

    def reset_counter(self, gpu: int, after_s: float = 0.0) -> None:
        """The energy counter begins anew at 0."""
        with self._store.locked() as state:
            found = state.gpus[gpu]
            found.resets_ns = sorted([*found.resets_ns, state.now_ns + round(after_s * SECOND_NS)])
            self._store.save(state)

    def silence(self, gpu: int, what: int | str, after_s: float = 0.0, for_s: float | None = None) -> None:
        """A field, by its number, or a function, by its NVML name, fails with an unknown error."""
        self._inject("silent", after_s, for_s=for_s, gpu=gpu, what=what)

    def slow(self, gpu: int, seconds: float, after_s: float = 0.0, calls: int = 1) -> None:
        """That many reads of fields take so long; on a virtual clock, it moves on instead."""
        self._inject("slow", after_s, gpu=gpu, seconds=seconds, calls=calls)

    def truth(self, gpu: int) -> Truth:
        """What is true now."""
        with current(self._store) as state:
            found, ns = state.gpus[gpu], state.now_ns
            point = Log(self._store, gpu, found.points).at(ns)
            return Truth(
                power_w=point.power_w,
                sm_clock_mhz=point.clock_mhz,
                temperature_c=point.temperature_at(found.spec, ns),
                energy_j=point.energy_at(ns),
                requested_w=found.requested_w,
                in_force_w=in_force_w(found),
                locked_mhz=found.locked_mhz,
                bound_s=point.counted_ns(curve.CAP, ns) / SECOND_NS,
                cap_bound=bool(point.reasons & curve.CAP),
            )

    def true_energy_j(self, gpu: int, start_ns: int, end_ns: int) -> float:
        """What the GPU truly took between two times of its clock; of the future, as if nothing changed any more."""
        with current(self._store) as state:
            log = Log(self._store, gpu, state.gpus[gpu].points)
            return log.energy_j(end_ns) - log.energy_j(start_ns)

    def sensed(self, gpu: int, at_ns: npt.NDArray[np.int64]) -> Sensed:
        """What reads at these times would have given, all at once: much faster than reading.

        Of the faults only resets of the counter show.
        """
        with current(self._store) as state:
            found = state.gpus[gpu]
            starts_ns = [int(at_ns.min()) - 2 * round(found.spec.average_window_s * SECOND_NS), *found.resets_ns]
            arrays = Log(self._store, gpu, found.points).arrays(min(starts_ns), int(at_ns.max()))
        sensors = Sensors(found.spec, gpu, tuple(found.resets_ns))
        return Sensed(
            energy_mj=np.asarray(sensors.energy_mj(arrays, at_ns)).astype(np.int64),
            power_w=sensors.instant_mw(arrays, at_ns) / 1000,
            average_w=sensors.average_mw(arrays, at_ns) / 1000,
            hbm_w=sensors.hbm_mw(arrays, at_ns) / 1000,
            sm_clock_mhz=np.rint(arrays.column("clock_mhz", at_ns)),
            temperature_c=np.rint(arrays.temperature_c(found.spec, at_ns)),
            reasons=arrays.column("reasons", at_ns),
            cap_ns=arrays.counted_ns("cap_ns", curve.CAP, at_ns),
            thermal_ns=arrays.counted_ns("thermal_ns", curve.THERMAL, at_ns),
            brake_ns=arrays.counted_ns("brake_ns", curve.BRAKE, at_ns),
        )

    def _inject(self, kind: Kind, after_s: float, *, for_s: float | None = None, **details: Any) -> None:
        with self._store.locked() as state:
            at_ns = state.now_ns + round(after_s * SECOND_NS)
            until_ns = None if for_s is None else at_ns + round(for_s * SECOND_NS)
            state.faults.append(Fault(kind, at_ns, until_ns, **details))
            self._store.save(state)


def create(
    path: str | PathLike[str], gpus: Sequence[FakeGpu] = (FakeGpu(),), *, virtual: bool = False, driver: str = DRIVER
) -> FakeNvml:
    """Makes stand-in GPUs in a new folder at ``path``; with ``virtual``, on a clock that only ``advance_s`` moves.

    Raises FileExistsError if there are some already, and RejouleError for something unknown that they should lack.
    """
    unknown = [what for gpu in gpus for what in gpu.unsupported if what not in KNOWN]
    if unknown:
        raise RejouleError(
            f"a FakeGpu cannot be without {unknown[0]}: it has no such field or function",
            f"in unsupported=, take of {', '.join(map(str, KNOWN))}",
        )
    start_ns = START_NS if virtual else monotonic_ns()
    state = State(
        driver=driver,
        start_ns=start_ns,
        wall_offset_ns=EPOCH_NS - START_NS if virtual else time_ns() - start_ns,
        gpus=[_gpu(index, spec) for index, spec in enumerate(gpus)],
        virtual_ns=start_ns if virtual else None,
    )
    store = Store.create(Path(path), state)
    for index, gpu in enumerate(state.gpus):
        gpu.points = Log(store, index, 0).append([first_point(gpu, start_ns)])
    store.save(state)
    return FakeNvml(path)


def drive(
    path: str | PathLike[str], gpu: int, watts: float, sm_clock_mhz: float | None = None, cap_bound: bool = False
) -> tuple[float, int | None]:
    """``FakeNvml(path).drive(...)`` for those that keep no handle."""
    return _handle(str(path)).drive(gpu, watts, sm_clock_mhz=sm_clock_mhz, cap_bound=cap_bound)


def true_energy_j(path: str | PathLike[str], gpu: int, start_ns: int, end_ns: int) -> float:
    """``FakeNvml(path).true_energy_j(...)`` for those that keep no handle."""
    return _handle(str(path)).true_energy_j(gpu, start_ns, end_ns)


@lru_cache(maxsize=8)
def _handle(path: str) -> FakeNvml:
    return FakeNvml(path)


def _gpu(index: int, spec: FakeGpu) -> GpuState:
    uuid = spec.uuid or f"GPU-fa4e0000-0000-4000-8000-{index:012d}"
    found_w = spec.default_w if spec.requested_w is None else spec.requested_w
    return GpuState(spec=replace(spec, uuid=uuid), requested_w=found_w, accepted_w=found_w)

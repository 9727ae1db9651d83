"""The GPUs of this machine as NVML shows them: what their sensors say, their power limits and clocks.

The only module that imports pynvml. Where ``REJOULE_FAKE_NVML`` names a stand-in (``rejoule.replay.energy.fake``),
the same calls reach that instead of the driver.

Field numbers, units and pitfalls: NVML API reference, "Field Value Enums" and "Device Queries".
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import CDLL
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Self

import pynvml

from rejoule.replay.energy.variables import FAKE
from rejoule.traces import RejouleError

Reason = Literal["permission", "range", "unsupported", "lost"]
Field = tuple[int, int]
"""Number and scope."""

ENERGY: Final[Field] = (83, 0)
ENERGY_TOO: Final[Field] = (191, 0)
AVERAGE: Final[Field] = (185, 0)
HBM: Final[Field] = (185, 2)
INSTANT: Final[Field] = (186, 0)
MIN_LIMIT: Final[Field] = (187, 0)
MAX_LIMIT: Final[Field] = (188, 0)
DEFAULT_LIMIT: Final[Field] = (189, 0)
LIMIT: Final[Field] = (190, 0)
REQUESTED_LIMIT: Final[Field] = (192, 0)
CAP: Final[Field] = (74, 0)
THERMAL: Final[Field] = (75, 0)
SOFTWARE_THERMAL: Final[Field] = (269, 0)
HARDWARE_THERMAL: Final[Field] = (270, 0)
BRAKE: Final[Field] = (271, 0)

_SAMPLED: Final = (
    ENERGY, ENERGY_TOO, INSTANT, AVERAGE, HBM, LIMIT, CAP, SOFTWARE_THERMAL, HARDWARE_THERMAL, THERMAL, BRAKE,
)  # fmt: skip
_COUNTERS: Final = (ENERGY, ENERGY_TOO)
_SLOW: Final = (LIMIT, THERMAL, SOFTWARE_THERMAL, HARDWARE_THERMAL, BRAKE)
_LIMITS: Final = (MIN_LIMIT, MAX_LIMIT, DEFAULT_LIMIT, REQUESTED_LIMIT, LIMIT)
_MEMBER: Final = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""Which member of the value's union holds it, by ``valueType``."""
_ABSENT: Final = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
}
_LOST: Final = {
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_GPU_NOT_FOUND,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_UNINITIALIZED,
}
_INSTANT_USAGE: Final = ("A100", "A800", "A30")
"""Names of the GA100 cards, whose ``nvmlDeviceGetPowerUsage`` is no average."""
_AMPERE: Final = 7


class GpuLost(Exception):  # noqa: N818
    """The GPU fell off the bus, or its driver is gone: it will not answer again."""


class NvmlRefused(Exception):  # noqa: N818
    """A setting was refused; ``reason`` says why. What NVML cannot name counts as ``unsupported``."""

    def __init__(self, reason: Reason, said: str) -> None:
        super().__init__(said)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a GPU's sensors; ``None`` is what it did not tell."""

    host_ns: int
    """``time.monotonic_ns()`` when the read began."""
    wall_us: int
    """The driver's timestamp of the energy counter, in µs since the epoch; the host's time where it gives none."""
    energy_mj: int | None
    """Since the driver was loaded. Changes every 20 to 100 ms."""
    power_w: float | None
    """Of the last sensor window (25 ms of every 100 ms on an H100)."""
    average_w: float | None
    """Over the last second."""
    hbm_w: float | None
    """Of the GPU's memory, over the last second."""
    limit_w: float | None
    """The power limit in force."""
    sm_clock_mhz: int | None
    memory_clock_mhz: int | None
    temperature_c: int | None
    reasons: int | None
    """NVML's mask of clock event reasons."""
    cap_ns: int | None
    """How long the power cap has held the clocks down so far."""
    thermal_ns: int | None
    """How long heat has, by software and by hardware."""
    brake_ns: int | None
    """How long a hardware power brake has."""


_NOTHING: Final = dict.fromkeys(
    field.name for field in fields(Sample) if field.name not in ("host_ns", "wall_us", "energy_mj")
)


@dataclass(frozen=True, slots=True)
class Limits:
    """A GPU's power limits in watts; ``None`` is what it did not tell."""

    min_w: float | None
    max_w: float | None
    default_w: float | None
    requested_w: float | None
    in_force_w: float | None
    """What the GPU keeps to: less than requested where the node or another tool limits it further."""


class Gpu:
    """One GPU, found by UUID: indices change with ``CUDA_VISIBLE_DEVICES``. Every method may raise GpuLost."""

    def __init__(self, handle: Any, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._handle = handle
        self._clock_ns = clock_ns
        self.uuid: str = _call(pynvml.nvmlDeviceGetUUID, handle)
        self.name: str = _call(pynvml.nvmlDeviceGetName, handle)
        self.index: int = _call(pynvml.nvmlDeviceGetIndex, handle)
        known = _needed(self._known(_SAMPLED))
        self._fields = [field for field in known if field not in (*_COUNTERS, *_SLOW)]
        self._counters = [field for field in known if field in _COUNTERS]
        self._slow = [field for field in known if field in _SLOW]
        self._usage_is_instant = self._has_instant_usage()

    def sample(self, *, counter: bool = True, slow: bool = True) -> Sample:
        """Reads every sensor that this GPU has: one batched call, then clocks, temperature and reasons.

        On an H200 the energy ``counter`` takes 4 ms of CPU time, and 1.5 ms what is ``slow`` to change or to read: how
        long heat and the power brake held the clocks down, the limit, the memory's clock, the temperature, and the
        reasons where the cap has a counter. All the rest takes 0.2 ms. What is not asked for is ``None``.
        """
        host_ns = self._clock_ns()
        asked = [*self._fields, *(self._counters if counter else ()), *(self._slow if slow else ())]
        found, stamps_us = self._read(asked)
        energy_mj = _first(found, *_COUNTERS)
        if counter and not self._counters:
            energy_mj = self._ask(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        power_w, average_w = _watts(found.get(INSTANT)), _watts(found.get(AVERAGE))
        if not {INSTANT, AVERAGE} & set(self._fields):
            usage_w = _watts(self._ask(pynvml.nvmlDeviceGetPowerUsage))
            power_w, average_w = (usage_w, None) if self._usage_is_instant else (None, usage_w)
        limit_mw = found.get(LIMIT)
        if slow and LIMIT not in self._slow:
            limit_mw = self._ask(pynvml.nvmlDeviceGetEnforcedPowerLimit)
        return Sample(
            host_ns=host_ns,
            wall_us=stamps_us.get(ENERGY) or stamps_us.get(ENERGY_TOO) or time.time_ns() // 1000,
            energy_mj=energy_mj,
            power_w=power_w,
            average_w=average_w,
            hbm_w=_part_w(_watts(found.get(HBM)), average_w),
            limit_w=_watts(limit_mw),
            sm_clock_mhz=self._ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
            memory_clock_mhz=self._ask(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM) if slow else None,
            temperature_c=self._ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU) if slow else None,
            reasons=self._ask(_reasons) if slow or CAP not in self._fields else None,
            cap_ns=found.get(CAP),
            thermal_ns=_sum(found, SOFTWARE_THERMAL, HARDWARE_THERMAL, instead=THERMAL),
            brake_ns=found.get(BRAKE),
        )

    def energy(self) -> Sample:
        """Reads the energy counter, and nothing else."""
        host_ns = self._clock_ns()
        found, stamps_us = self._read(self._counters) if self._counters else ({}, {})
        energy_mj = _first(found, *_COUNTERS)
        if not self._counters:
            energy_mj = self._ask(pynvml.nvmlDeviceGetTotalEnergyConsumption)
        return Sample(
            host_ns=host_ns,
            wall_us=stamps_us.get(ENERGY) or stamps_us.get(ENERGY_TOO) or time.time_ns() // 1000,
            energy_mj=energy_mj,
            **_NOTHING,
        )

    def limits(self) -> Limits:
        """What the power limits are now."""
        found, _ = self._read(_LIMITS)
        least, most = found.get(MIN_LIMIT), found.get(MAX_LIMIT)
        if least is None or most is None:
            least, most = self._ask(pynvml.nvmlDeviceGetPowerManagementLimitConstraints) or (least, most)
        return Limits(
            min_w=_watts(least),
            max_w=_watts(most),
            default_w=self._limit_w(found, DEFAULT_LIMIT, pynvml.nvmlDeviceGetPowerManagementDefaultLimit),
            requested_w=self._limit_w(found, REQUESTED_LIMIT, pynvml.nvmlDeviceGetPowerManagementLimit),
            in_force_w=self._limit_w(found, LIMIT, pynvml.nvmlDeviceGetEnforcedPowerLimit),
        )

    def set_power_limit_w(self, watts: float) -> None:
        """Asks for a limit, to the milliwatt; read ``limits`` to see whether it took effect. Raises NvmlRefused."""
        # The _v2 call of nvidia-ml-py returns success without looking at what the driver said.
        self._set(pynvml.nvmlDeviceSetPowerManagementLimit, round(watts * 1000))

    def sm_clocks_mhz(self) -> tuple[int, ...]:
        """The SM clocks that can be locked at the highest memory clock, ascending; empty if the GPU does not tell."""
        memory = self._ask(pynvml.nvmlDeviceGetSupportedMemoryClocks)
        if not memory:
            return ()
        return tuple(sorted(self._ask(pynvml.nvmlDeviceGetSupportedGraphicsClocks, max(memory)) or ()))

    def lock_sm_clock_mhz(self, mhz: int) -> None:
        """Holds the SM clock at ``mhz``, or below where a limit binds. Raises NvmlRefused."""
        self._set(pynvml.nvmlDeviceSetGpuLockedClocks, mhz, mhz)

    def unlock_sm_clock(self) -> None:
        """Ends a clock lock, whoever set it. Raises NvmlRefused."""
        self._set(pynvml.nvmlDeviceResetGpuLockedClocks)

    def processes(self) -> tuple[int, ...]:
        """Pids with a compute context here; empty too where the GPU does not tell, as in some containers."""
        found = self._ask(pynvml.nvmlDeviceGetComputeRunningProcesses)
        if found is None:  # drivers before 510
            found = self._ask(pynvml.nvmlDeviceGetComputeRunningProcesses_v2)
        return tuple(sorted(int(process.pid) for process in found or ()))

    def mig(self) -> bool:
        """Whether the GPU is split into instances; its sensors still speak for all of it."""
        modes = self._ask(pynvml.nvmlDeviceGetMigMode)
        return modes is not None and modes[0] == pynvml.NVML_DEVICE_MIG_ENABLE

    def persistence(self) -> bool | None:
        """Whether the driver stays loaded, and limits with it, while nothing uses the GPU."""
        mode = self._ask(pynvml.nvmlDeviceGetPersistenceMode)
        return None if mode is None else bool(mode)

    def memory_bytes(self) -> int | None:
        """The size of the GPU's memory."""
        memory = self._ask(pynvml.nvmlDeviceGetMemoryInfo)
        return None if memory is None else int(memory.total)

    def _read(self, fields: Sequence[Field]) -> tuple[dict[Field, int], dict[Field, int]]:
        """The values that were told, and the driver's timestamps of them in µs since the epoch."""
        values: dict[Field, int] = {}
        stamps_us: dict[Field, int] = {}
        for field, told in zip(fields, self._ask(pynvml.nvmlDeviceGetFieldValues, fields) or (), strict=False):
            if told.nvmlReturn in _LOST:
                raise GpuLost(f"GPU {self.uuid} is lost")
            if told.nvmlReturn == pynvml.NVML_SUCCESS and told.valueType in _MEMBER:
                values[field] = int(getattr(told.value, _MEMBER[told.valueType]))
                stamps_us[field] = int(told.timestamp)
        return values, stamps_us

    def _known(self, fields: Sequence[Field]) -> list[Field]:
        """The fields that this GPU and driver have, whether they answer at the moment or not."""
        told = self._ask(pynvml.nvmlDeviceGetFieldValues, fields) or ()
        return [field for field, value in zip(fields, told, strict=False) if value.nvmlReturn not in _ABSENT]

    def _has_instant_usage(self) -> bool:
        """Of ``nvmlDeviceGetPowerUsage``: an average over a second from Ampere on, but for GA100 (nvml.h)."""
        architecture = self._ask(pynvml.nvmlDeviceGetArchitecture)
        return (architecture or _AMPERE) < _AMPERE or any(card in self.name for card in _INSTANT_USAGE)

    def _limit_w(self, found: dict[Field, int], field: Field, single: Callable[..., Any]) -> float | None:
        return _watts(found[field] if field in found else self._ask(single))

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a call tells; ``None`` if this GPU or driver has no answer."""
        try:
            return function(self._handle, *arguments)
        except pynvml.NVMLError as error:
            if error.value in _LOST:
                raise GpuLost(f"GPU {self.uuid} is lost: {error}") from error
            return None

    def _set(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            function(self._handle, *arguments)
        except pynvml.NVMLError as error:
            raise NvmlRefused(_reason(error.value), f"GPU {self.uuid}: {error}") from error


class Nvml:
    """The driver, and the GPUs that were asked for. Close it, or use it as a context."""

    def __init__(self, driver: str, gpus: tuple[Gpu, ...]) -> None:
        self.driver = driver
        self.gpus = gpus
        self._open = True

    def close(self) -> None:
        """Harmless when repeated, and where the driver is gone."""
        if self._open:
            self._open = False
            _shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_nvml(uuids: Sequence[str] | None = None) -> Nvml | None:
    """The GPUs named, or else those that ``CUDA_VISIBLE_DEVICES`` lets this process use, or else all.

    ``None`` where there is no NVIDIA driver or no GPU. Numbers in ``CUDA_VISIBLE_DEVICES`` are taken in the order of
    the bus, which is CUDA's own only with ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` or with equal GPUs.

    Raises RejouleError if a GPU is unknown, does not answer, or is an instance of a split one (MIG).
    """
    clock_ns = _library()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = _visible(_handles()) if uuids is None else [_handle(uuid) for uuid in uuids]
        if handles:
            driver = str(_call(pynvml.nvmlSystemGetDriverVersion))
            return Nvml(driver, tuple(Gpu(handle, clock_ns) for handle in handles))
    except BaseException as error:
        _shut()
        if isinstance(error, GpuLost):
            raise RejouleError(str(error), "see nvidia-smi and the kernel's log; a reset or a reboot helps") from error
        raise
    _shut()
    return None


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU with a driver."""
    _library()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    try:
        return int(pynvml.nvmlDeviceGetCount()) > 0
    finally:
        _shut()


def _shut() -> None:
    with suppress(pynvml.NVMLError):  # the driver may be gone
        pynvml.nvmlShutdown()


def _library() -> Callable[[], int]:
    """Puts the stand-in, or the driver, under pynvml; the clock to stamp reads with."""
    path = os.environ.get(FAKE)
    if path:
        from rejoule.replay.energy.fake.driver import library_of

        library = library_of(path)
        if pynvml.nvmlLib is not library:
            pynvml._nvmlGetFunctionPointer_cache.clear()
            pynvml.nvmlLib = library
        return library.monotonic_ns
    if pynvml.nvmlLib is not None and not isinstance(pynvml.nvmlLib, CDLL):
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml.nvmlLib = None
    return time.monotonic_ns


def _handles() -> list[Any]:
    return [_call(pynvml.nvmlDeviceGetHandleByIndex, i) for i in range(_call(pynvml.nvmlDeviceGetCount))]


def _handle(uuid: str) -> Any:
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError as error:
        if error.value in _LOST:
            raise GpuLost(f"GPU {uuid} is lost: {error}") from error
        raise RejouleError(f"this machine has no GPU {uuid}", "see nvidia-smi -L for those it has") from error


def _visible(handles: list[Any]) -> list[Any]:
    """As CUDA reads its variable: a list of indices or UUIDs, abbreviated or not, that ends at the first unknown."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return handles
    uuids = [str(_call(pynvml.nvmlDeviceGetUUID, handle)) for handle in handles]
    chosen: list[Any] = []
    for word in (w.strip() for w in listed.split(",")):
        if word.startswith("MIG"):
            raise RejouleError(
                f"CUDA_VISIBLE_DEVICES={listed} names an instance of a split GPU (MIG)",
                "measure whole GPUs: NVML tells no energy of an instance",
            )
        if word.isdecimal():
            matching = handles[int(word) : int(word) + 1]
        else:
            matching = [h for h, uuid in zip(handles, uuids, strict=True) if word and uuid.startswith(word)]
        if len(matching) != 1:
            break
        chosen += matching
    return chosen


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """A call without which nothing goes on."""
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        if error.value in _LOST:
            raise GpuLost(str(error)) from error
        raise RejouleError(f"NVML failed: {error}", "see whether nvidia-smi works") from error


def _needed(fields: Sequence[Field]) -> tuple[Field, ...]:
    """Without those that say the same: on an H200 a read of the energy counter takes 4 ms."""
    spare = {ENERGY_TOO} if ENERGY in fields else set()
    if {SOFTWARE_THERMAL, HARDWARE_THERMAL} & set(fields):
        spare.add(THERMAL)
    return tuple(field for field in fields if field not in spare)


def _reasons(handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except pynvml.NVMLError_FunctionNotFound:  # drivers before 535
        return int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))


def _reason(code: int) -> Reason:
    if code == pynvml.NVML_ERROR_NO_PERMISSION:
        return "permission"
    if code == pynvml.NVML_ERROR_INVALID_ARGUMENT:
        return "range"
    return "lost" if code in _LOST else "unsupported"


def _first(found: dict[Field, int], *fields: Field) -> int | None:
    return next((found[field] for field in fields if field in found), None)


def _sum(found: dict[Field, int], *fields: Field, instead: Field) -> int | None:
    told = [found[field] for field in fields if field in found]
    return sum(told) if told else found.get(instead)


def _part_w(part_w: float | None, whole_w: float | None) -> float | None:
    """The memory's power: 0 means that there is no sensor, all of it that the driver took no notice of the scope."""
    return None if not part_w or part_w == whole_w else part_w


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000

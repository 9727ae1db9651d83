"""What each call of NVML does, once it is known that it may: reads take a moment, settings take a GPU's state.

Arguments are those of the C functions without the handle. Numbers of fields: nvml.h, "Field Identifiers".
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

from rejoule.replay.energy.fake.curve import BRAKE, CAP, THERMAL, in_force_w
from rejoule.replay.energy.fake.moment import HANDLES_AT, Code, Moment, Refused
from rejoule.replay.energy.fake.state import GpuState, State

UNSIGNED_INT: Final = 1
UNSIGNED_LONG_LONG: Final = 3
HOPPER: Final = 9
MEMORY_CLOCK: Final = 2
MEMORY_SCOPE: Final = 2
ENERGY: Final = (83, 191)
"""Fields of the energy counter."""


def init(state: State, flags: int) -> None:
    """Always works where there is a driver."""


def shutdown(state: State) -> None:
    """As does this."""


def driver_version(state: State, text: Any, size: Any) -> None:
    text.value = state.driver.encode()


def count(state: State, number: Any) -> None:
    number._obj.value = len(state.gpus)


def handle_by_index(state: State, index: Any, handle: Any) -> None:
    if index.value >= len(state.gpus):
        raise Refused(Code.INVALID_ARGUMENT)
    ctypes.c_void_p.from_buffer(handle._obj).value = HANDLES_AT + index.value


def handle_by_uuid(state: State, uuid: Any, handle: Any) -> None:
    for index, gpu in enumerate(state.gpus):
        if gpu.spec.uuid == uuid.value.decode():
            ctypes.c_void_p.from_buffer(handle._obj).value = HANDLES_AT + index
            return
    raise Refused(Code.NOT_FOUND)


def uuid(moment: Moment, text: Any, size: Any) -> None:
    text.value = str(moment.spec.uuid).encode()


def name(moment: Moment, text: Any, size: Any) -> None:
    text.value = moment.spec.name.encode()


def index(moment: Moment, number: Any) -> None:
    number._obj.value = moment.index


def architecture(moment: Moment, number: Any) -> None:
    number._obj.value = HOPPER


def total_energy(moment: Moment, number: Any) -> None:
    number._obj.value = int(moment.sensors.energy_mj(moment.log, moment.now_ns))


def power_usage(moment: Moment, number: Any) -> None:
    number._obj.value = int(moment.sensors.average_mw(moment.log, moment.now_ns))


def clock(moment: Moment, kind: Any, number: Any) -> None:
    number._obj.value = moment.spec.memory_mhz if kind.value == MEMORY_CLOCK else round(moment.point.clock_mhz)


def temperature(moment: Moment, sensor: Any, number: Any) -> None:
    number._obj.value = round(moment.point.temperature_at(moment.spec, moment.now_ns))


def reasons(moment: Moment, mask: Any) -> None:
    mask._obj.value = moment.point.reasons


def in_force(moment: Moment, number: Any) -> None:
    number._obj.value = round(in_force_w(moment.gpu) * 1000)


def requested(moment: Moment, number: Any) -> None:
    number._obj.value = round(moment.gpu.requested_w * 1000)


def constraints(moment: Moment, least: Any, most: Any) -> None:
    least._obj.value, most._obj.value = round(moment.spec.min_w * 1000), round(moment.spec.max_w * 1000)


def default(moment: Moment, number: Any) -> None:
    number._obj.value = round(moment.spec.default_w * 1000)


def mig(moment: Moment, now: Any, pending: Any) -> None:
    now._obj.value = pending._obj.value = int(moment.spec.mig)


def persistence(moment: Moment, state: Any) -> None:
    if moment.spec.persistence is None:
        raise Refused(Code.NOT_SUPPORTED)
    state._obj.value = int(moment.spec.persistence)


def memory(moment: Moment, info: Any) -> None:
    info._obj.total = info._obj.free = moment.spec.memory_bytes
    info._obj.used = 0


def processes(moment: Moment, number: Any, found: Any) -> None:
    pids = moment.spec.processes
    room, number._obj.value = number._obj.value, len(pids)
    if len(pids) > room:
        raise Refused(Code.INSUFFICIENT_SIZE)
    for index, pid in enumerate(pids):
        found[index].pid = pid


def memory_clocks(moment: Moment, number: Any, found: Any) -> None:
    _list([moment.spec.memory_mhz], number, found)


def sm_clocks(moment: Moment, memory_mhz: Any, number: Any, found: Any) -> None:
    if memory_mhz.value != moment.spec.memory_mhz:
        raise Refused(Code.NOT_FOUND)
    spec = moment.spec
    _list([*range(spec.max_sm_mhz, spec.min_sm_mhz - 1, -spec.step_mhz)], number, found)


def fields(moment: Moment, size: Any, values: Any) -> None:
    for value in values._obj[: size.value]:
        value.timestamp, value.latencyUsec = moment.wall_us, 10
        value.nvmlReturn = moment.answers(value.fieldId)
        read = _FIELDS.get((value.fieldId, value.scopeId))
        if read is None:
            value.nvmlReturn = Code.NOT_SUPPORTED
        elif value.nvmlReturn == Code.SUCCESS:
            wide = value.fieldId in _WIDE
            value.valueType = UNSIGNED_LONG_LONG if wide else UNSIGNED_INT
            setattr(value.value, "ullVal" if wide else "uiVal", int(read(moment) + 0.5))


def set_limit(gpu: GpuState, milliwatts: Any) -> None:
    _permitted(gpu)
    watts = milliwatts.value / 1000
    if not gpu.spec.min_w <= watts <= gpu.spec.max_w:
        raise Refused(Code.INVALID_ARGUMENT)
    gpu.requested_w = watts
    if not gpu.spec.ignores_limit:
        gpu.accepted_w = watts


def lock_clock(gpu: GpuState, least: Any, most: Any) -> None:
    _permitted(gpu)
    if not 0 < least.value <= most.value:
        raise Refused(Code.INVALID_ARGUMENT)
    gpu.locked_mhz = max(gpu.spec.min_sm_mhz, min(most.value, gpu.spec.max_sm_mhz))


def unlock_clock(gpu: GpuState) -> None:
    _permitted(gpu)
    gpu.locked_mhz = None


def _permitted(gpu: GpuState) -> None:
    if not gpu.spec.permission:
        raise Refused(Code.NO_PERMISSION)


def _list(numbers: list[int], size: Any, found: Any) -> None:
    room, size._obj.value = size._obj.value, len(numbers)
    if found is None or len(numbers) > room:
        raise Refused(Code.INSUFFICIENT_SIZE)
    for index, number in enumerate(numbers):
        found[index] = number


_WIDE: Final = {74, 75, 83, 191, 269, 270, 271}
_FIELDS: Final[dict[tuple[int, int], Callable[[Moment], float]]] = {
    (74, 0): lambda m: m.point.counted_ns(CAP, m.now_ns),
    (75, 0): lambda m: m.point.counted_ns(THERMAL, m.now_ns),
    (83, 0): lambda m: m.sensors.energy_mj(m.log, m.now_ns),
    (185, 0): lambda m: m.sensors.average_mw(m.log, m.now_ns),
    (185, MEMORY_SCOPE): lambda m: m.sensors.hbm_mw(m.log, m.now_ns),
    (186, 0): lambda m: m.sensors.instant_mw(m.log, m.now_ns),
    (187, 0): lambda m: m.spec.min_w * 1000,
    (188, 0): lambda m: m.spec.max_w * 1000,
    (189, 0): lambda m: m.spec.default_w * 1000,
    (190, 0): lambda m: in_force_w(m.gpu) * 1000,
    (191, 0): lambda m: m.sensors.energy_mj(m.log, m.now_ns),
    (192, 0): lambda m: m.gpu.requested_w * 1000,
    (269, 0): lambda m: m.point.counted_ns(THERMAL, m.now_ns),
    (270, 0): lambda m: 0,
    (271, 0): lambda m: m.point.counted_ns(BRAKE, m.now_ns),
}

SYSTEM: Final[dict[str, Callable[..., None]]] = {
    "nvmlInitWithFlags": init,
    "nvmlShutdown": shutdown,
    "nvmlSystemGetDriverVersion": driver_version,
    "nvmlDeviceGetCount_v2": count,
    "nvmlDeviceGetHandleByIndex_v2": handle_by_index,
    "nvmlDeviceGetHandleByUUID": handle_by_uuid,
}
READS: Final[dict[str, Callable[..., None]]] = {
    "nvmlDeviceGetUUID": uuid,
    "nvmlDeviceGetName": name,
    "nvmlDeviceGetIndex": index,
    "nvmlDeviceGetArchitecture": architecture,
    "nvmlDeviceGetTotalEnergyConsumption": total_energy,
    "nvmlDeviceGetPowerUsage": power_usage,
    "nvmlDeviceGetClockInfo": clock,
    "nvmlDeviceGetTemperature": temperature,
    "nvmlDeviceGetCurrentClocksEventReasons": reasons,
    "nvmlDeviceGetCurrentClocksThrottleReasons": reasons,
    "nvmlDeviceGetEnforcedPowerLimit": in_force,
    "nvmlDeviceGetPowerManagementLimit": requested,
    "nvmlDeviceGetPowerManagementLimitConstraints": constraints,
    "nvmlDeviceGetPowerManagementDefaultLimit": default,
    "nvmlDeviceGetMigMode": mig,
    "nvmlDeviceGetPersistenceMode": persistence,
    "nvmlDeviceGetMemoryInfo": memory,
    "nvmlDeviceGetComputeRunningProcesses_v3": processes,
    "nvmlDeviceGetComputeRunningProcesses_v2": processes,
    "nvmlDeviceGetSupportedMemoryClocks": memory_clocks,
    "nvmlDeviceGetSupportedGraphicsClocks": sm_clocks,
    "nvmlDeviceGetFieldValues": fields,
}
SETS: Final[dict[str, Callable[..., None]]] = {
    "nvmlDeviceSetPowerManagementLimit": set_limit,
    "nvmlDeviceSetGpuLockedClocks": lock_clock,
    "nvmlDeviceResetGpuLockedClocks": unlock_clock,
}
KNOWN: Final = (*dict.fromkeys(number for number, _ in _FIELDS), *READS, *SETS)
"""The fields and functions that a GPU may be without."""

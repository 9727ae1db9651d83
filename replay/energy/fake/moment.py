"""Stand-in GPUs as one call of NVML finds them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Self

from rejoule.replay.energy.fake.curve import Log, Point
from rejoule.replay.energy.fake.gpu import FakeGpu
from rejoule.replay.energy.fake.sensors import Sensors
from rejoule.replay.energy.fake.state import GpuState, State, Store

HANDLES_AT: Final = 0x1000
"""A handle is a pointer that nobody follows: this plus the GPU's index."""


class Code(IntEnum):
    """NVML's return codes."""

    SUCCESS = 0
    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    INSUFFICIENT_SIZE = 7
    DRIVER_NOT_LOADED = 9
    GPU_IS_LOST = 15
    UNKNOWN = 999


class Refused(Exception):  # noqa: N818
    """Ends a call with one of NVML's codes."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


class Moment:
    """Raises Refused without a driver, and, of a GPU, if there is none in that index or it is gone."""

    gpu: GpuState
    spec: FakeGpu
    sensors: Sensors
    log: Log
    point: Point

    def __init__(self, store: Store, state: State) -> None:
        self.state = state
        self.now_ns = state.now_ns
        self.index: int | None = None
        self._store = store
        if self._fault("unloaded"):
            raise Refused(Code.DRIVER_NOT_LOADED)

    @property
    def wall_us(self) -> int:
        return (self.now_ns + self.state.wall_offset_ns) // 1000

    def of(self, index: int) -> Self:
        """For one of the GPUs."""
        if not 0 <= index < len(self.state.gpus):
            raise Refused(Code.INVALID_ARGUMENT)
        self.index = index
        if self._fault("lost"):
            raise Refused(Code.GPU_IS_LOST)
        self.gpu = self.state.gpus[index]
        self.spec = self.gpu.spec
        self.sensors = Sensors(self.spec, index, tuple(self.gpu.resets_ns))
        self.log = Log(self._store, index, self.gpu.points)
        self.point = self.log.at(self.now_ns)
        return self

    def answers(self, what: int | str) -> Code:
        """NVML's code for a field or a function of the GPU."""
        if what in self.spec.unsupported:
            return Code.NOT_SUPPORTED
        return Code.UNKNOWN if self._fault("silent", what) else Code.SUCCESS

    def _fault(self, kind: str, what: int | str | None = None) -> bool:
        return any(f.kind == kind and f.what == what and f.holds(self.now_ns, self.index) for f in self.state.faults)

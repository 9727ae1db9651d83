"""The functions of ``libnvidia-ml`` over stand-in GPUs: what pynvml finds where it would have loaded the library.

Each takes what pynvml passes (ctypes values, ``byref`` of them, arrays) and returns NVML's code.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from rejoule.replay.energy.fake.calls import ENERGY, READS, SETS, SYSTEM
from rejoule.replay.energy.fake.moment import HANDLES_AT, Code, Moment, Refused
from rejoule.replay.energy.fake.state import Store
from rejoule.replay.energy.fake.timeline import changed, current
from rejoule.replay.energy.variables import FAKE
from rejoule.traces import RejouleError


class FakeLibrary:
    """``getattr`` gives NVML's functions by name."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(folder)
        self._users = 0

    def monotonic_ns(self) -> int:
        """The clock of these GPUs."""
        with self._store.locked() as state:
            return state.now_ns

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Partials, because pynvml sets attributes on some functions, as one does on those of ctypes.
        if name == "nvmlErrorString":
            return partial(_error_string)
        if name in SYSTEM or name in READS or name in SETS:
            return partial(self._call, name)
        raise AttributeError(name)

    def _call(self, name: str, *arguments: Any) -> int:
        try:
            if name in SYSTEM:
                self._system(name, arguments)
            else:
                self._device(name, *arguments)
        except Refused as refused:
            return refused.code
        return Code.SUCCESS

    def _system(self, name: str, arguments: tuple[Any, ...]) -> None:
        with current(self._store) as state:
            Moment(self._store, state)
            self._users += {"nvmlInitWithFlags": 1, "nvmlShutdown": -min(1, self._users)}.get(name, 0)
            if not self._users and name != "nvmlShutdown":
                raise Refused(Code.UNINITIALIZED)
            SYSTEM[name](state, *arguments)

    def _device(self, name: str, handle: Any, *arguments: Any) -> None:
        if not self._users:
            raise Refused(Code.UNINITIALIZED)
        index = (ctypes.cast(handle, ctypes.c_void_p).value or 0) - HANDLES_AT
        if name == "nvmlDeviceGetFieldValues":
            self._dawdle(index, _counters(*arguments))
        with current(self._store) as state:
            moment = Moment(self._store, state).of(index)
            if (code := moment.answers(name)) != Code.SUCCESS:
                raise Refused(code)
            if name in READS:
                READS[name](moment, *arguments)
                return
        with changed(self._store, index) as gpu:
            SETS[name](gpu, *arguments)

    def _dawdle(self, index: int, counters: int) -> None:
        """Takes the time that reads of the counter need and a fault wants, on whichever clock there is."""
        with self._store.locked() as state:
            known = index < len(state.gpus)
            delay_s = counters * state.gpus[index].spec.counter_read_s if known else 0.0
            slow = [f for f in state.faults if f.kind == "slow" and f.holds(state.now_ns, index)]
            if slow:
                slow[0].calls = None if slow[0].calls is None else slow[0].calls - 1
                delay_s += slow[0].seconds
            if not delay_s:
                return
            if state.virtual_ns is not None:
                state.virtual_ns += round(delay_s * 1e9)
            if slow or state.virtual_ns is not None:
                self._store.save(state)
            if state.virtual_ns is not None:
                return
        time.sleep(delay_s)


def _counters(size: Any, values: Any) -> int:
    """How many of the fields asked for are the energy counter."""
    return sum(value.fieldId in ENERGY for value in values._obj[: size.value])


@lru_cache(maxsize=8)
def library_of(path: str) -> FakeLibrary:
    """The library over the stand-ins at ``path``. Raises RejouleError if there are none."""
    try:
        return FakeLibrary(Path(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RejouleError(
            f"{FAKE}={path} names no stand-in GPUs",
            "make some with rejoule.replay.energy.fake.create, or unset it",
        ) from error


def _error_string(code: int) -> bytes:
    names = {member.value: member.name for member in Code}
    return names.get(code, f"ERROR_{code}").replace("_", " ").capitalize().encode()

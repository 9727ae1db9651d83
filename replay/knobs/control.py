"""Sets the power cap and the SM clock lock of all GPUs for one configuration after another."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, NoReturn, Self

from rejoule.replay.energy.nvml import Gpu, GpuLost, Nvml, NvmlRefused
from rejoule.replay.knobs import journal
from rejoule.replay.knobs.journal import Found, GpuLock
from rejoule.replay.knobs.restore import TOLERANCE_W, put_back, requested_w, restore_journaled
from rejoule.replay.knobs.setting import KnobRefused, Setting
from rejoule.replay.knobs.watchdog import Watchdog
from rejoule.traces import RejouleError

LOCK_WAIT_S: Final = 15.0
"""A watchdog that still puts back what a killed experiment left needs a moment."""
IN_FORCE_S: Final = 1.0
"""How long a limit may take to come into force."""
POLL_S: Final = 0.02
SETTLE_S: Final = 10.0
"""After a change, before anything is measured: 3 s were found to be too few on an H200."""


class Knobs:
    """Holds the GPUs of ``nvml`` from entering to leaving, and leaves them as they were found.

    Entering raises RejouleError if another ReJoule holds one, or if what a crashed one left cannot be put back.
    """

    def __init__(self, nvml: Nvml, *, folder: Path | None = None, lock_wait_s: float = LOCK_WAIT_S) -> None:
        self._gpus = nvml.gpus
        self._folder = folder or journal.knobs_folder()
        self._lock_wait_s = lock_wait_s
        self._locks: list[GpuLock] = []
        self._watchdog: Watchdog | None = None
        self._found: dict[str, Found] = {}
        self._allowed: set[str] = set()
        self._setting = Setting()

    def __enter__(self) -> Self:
        uuids = [gpu.uuid for gpu in self._gpus]
        left = restore_journaled(self._folder, uuids, wait_s=self._lock_wait_s)
        if wrong := next((gpu.left for gpu in left if gpu.left is not None), None):
            raise RejouleError(wrong, "put the GPU back before another experiment: rejoule restore")
        try:
            # In one order for all, so that two cannot wait for each other.
            for uuid in sorted(uuids):
                self._locks.append(GpuLock(self._folder, uuid, wait_s=self._lock_wait_s))
        except RejouleError:
            self._release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._restore()
        finally:
            # The watchdog tries again what failed here; the locks go with it.
            if self._watchdog is not None:
                self._watchdog.close()
            self._release()

    @property
    def watchdog_pid(self) -> int | None:
        return None if self._watchdog is None else self._watchdog.pid

    def check(self, setting: Setting) -> None:
        """Raises KnobRefused if ``setting`` is out of range, or may not be set; changes nothing.

        Whether a limit may be set is found by asking for the one that is requested already.
        """
        if not setting.asks:
            return
        for gpu in self._gpus:
            _check_range(gpu, setting)
            if gpu.uuid not in self._allowed:
                now_w = requested_w(gpu)
                if now_w is not None:
                    try:
                        gpu.set_power_limit_w(now_w)
                    except (NvmlRefused, GpuLost) as error:
                        # A GPU without power limits may have clock locks.
                        if setting.power_cap_w is not None or getattr(error, "reason", "") != "unsupported":
                            _refuse(gpu, error)
                self._allowed.add(gpu.uuid)

    async def set(
        self, setting: Setting, *, settle_s: float = SETTLE_S, on_wait: Callable[[str], None] = lambda _: None
    ) -> None:
        """Brings ``setting`` into force on every GPU, proven by reading it back, and lets the GPUs settle.

        Raises KnobRefused, with every GPU as it was found, if one does not take it.
        """
        if setting == self._setting:
            await self.confirm()
            return
        try:
            if setting.asks:
                self._watch()
                for gpu in self._gpus:
                    self._change(gpu, setting)
            else:
                self._restore()
            self._setting = setting
            await self.confirm()
            on_wait(f"settling for {settle_s:g} s after a change of knobs")
            await asyncio.sleep(settle_s)
            await self.confirm()
        except (NvmlRefused, GpuLost, RejouleError) as error:
            self._setting = Setting()
            self._restore()
            if isinstance(error, KnobRefused):
                raise
            raise KnobRefused(str(error), "the GPUs are as they were found") from error

    async def confirm(self) -> float | None:
        """The limit in force, which is the one that was set; ``None`` if none was. Raises KnobRefused if it is not."""
        asked_w = self._setting.power_cap_w
        if asked_w is None:
            return None
        for gpu in self._gpus:
            deadline_s = monotonic() + IN_FORCE_S
            while not _near(in_force_w := _in_force_w(gpu), asked_w):
                if monotonic() > deadline_s:
                    told = "no limit" if in_force_w is None else f"{in_force_w:g} W"
                    raise KnobRefused(
                        f"power_cap_w = {asked_w:g} is not in force on {_named(gpu)}: {told} is",
                        "another program, or the node's own limit, may hold it; see: nvidia-smi -q -d POWER",
                    )
                await asyncio.sleep(POLL_S)
        return in_force_w

    def _change(self, gpu: Gpu, setting: Setting) -> None:
        before = self._found.get(gpu.uuid)
        known = before or Found(gpu.uuid, pid=os.getpid(), boot=journal.boot_id())
        if setting.power_cap_w is not None and known.limit_w is None:
            limit_w = requested_w(gpu)
            if limit_w is None:
                raise KnobRefused(f"{_named(gpu)} does not tell its power limit", "sweep caps with --engine sim")
            known = replace(known, limit_w=limit_w)
        known = replace(known, clock_locked=known.clock_locked or setting.sm_clock_mhz is not None)
        if known != before:
            # Before the change, and on disk: whoever finds it can undo what follows.
            journal.write(self._folder, known)
            self._found[gpu.uuid] = known
        try:
            if (watts := setting.power_cap_w if setting.power_cap_w is not None else known.limit_w) is not None:
                gpu.set_power_limit_w(watts)
            if setting.sm_clock_mhz is not None:
                gpu.lock_sm_clock_mhz(round(setting.sm_clock_mhz))
            elif known.clock_locked:
                gpu.unlock_sm_clock()
        except (NvmlRefused, GpuLost) as error:
            _refuse(gpu, error)

    def _watch(self) -> None:
        if self._watchdog is not None and not self._watchdog.alive:
            self._watchdog.close()
            self._watchdog = None
        if self._watchdog is None:
            self._watchdog = Watchdog(self._folder, [g.uuid for g in self._gpus], [lock.fd for lock in self._locks])

    def _restore(self) -> None:
        """Every GPU as it was found; tries all before it raises."""
        faults: list[RejouleError] = []
        for gpu in self._gpus:
            if (found := self._found.get(gpu.uuid)) is not None:
                try:
                    put_back(self._folder, gpu, found)
                    del self._found[gpu.uuid]
                except RejouleError as fault:
                    faults.append(fault)
        self._setting = Setting()
        if faults:
            raise faults[0]

    def _release(self) -> None:
        for lock in self._locks:
            lock.release()
        self._locks.clear()


def _check_range(gpu: Gpu, setting: Setting) -> None:
    if (watts := setting.power_cap_w) is not None:
        limits = gpu.limits()
        if limits.min_w is None or limits.max_w is None:
            raise KnobRefused(f"{_named(gpu)} has no power limit that can be set", "sweep caps with --engine sim")
        if not limits.min_w <= watts <= limits.max_w:
            raise KnobRefused(
                f"power_cap_w = {watts:g} is outside the range of {_named(gpu)}",
                f"give {limits.min_w:g} to {limits.max_w:g} W",
            )
    if (mhz := setting.sm_clock_mhz) is not None:
        clocks = gpu.sm_clocks_mhz()
        if not clocks:
            raise KnobRefused(f"{_named(gpu)} has no SM clocks to choose from", "sweep clocks with --engine sim")
        nearest = min(clocks, key=lambda c: (abs(c - mhz), c))
        if nearest != mhz:
            raise KnobRefused(
                f"sm_clock_mhz = {mhz:g} is none of the clocks of {_named(gpu)}", f"the nearest is {nearest}"
            )


def _refuse(gpu: Gpu, error: NvmlRefused | GpuLost) -> NoReturn:
    match getattr(error, "reason", "lost"):
        case "permission":
            what, remedy = f"may not set knobs of {_named(gpu)}", "run ReJoule as root, or with CAP_SYS_ADMIN"
        case "range":
            what, remedy = f"{_named(gpu)} does not accept the value: {error}", "choose another"
        case "unsupported":
            what, remedy = f"{_named(gpu)} does not have this knob", "sweep it with --engine sim"
        case _:
            what, remedy = f"{_named(gpu)} does not answer any more: {error}", "see dmesg; the GPU may need a reset"
    raise KnobRefused(what, remedy) from error


def _in_force_w(gpu: Gpu) -> float | None:
    try:
        limits = gpu.limits()
    except GpuLost as error:
        _refuse(gpu, error)
    return limits.in_force_w if limits.in_force_w is not None else limits.requested_w


def _near(watts: float | None, asked_w: float) -> bool:
    return watts is not None and abs(watts - asked_w) <= TOLERANCE_W


def _named(gpu: Gpu) -> str:
    return f"GPU {gpu.index} ({gpu.name})"

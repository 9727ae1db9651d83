"""Puts GPUs back as the journals say: for the watchdog, before an experiment, and by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rejoule.replay.energy.nvml import Gpu, GpuLost, NvmlRefused, open_nvml
from rejoule.replay.knobs import journal
from rejoule.replay.knobs.journal import Found, GpuLock
from rejoule.traces.errors import RejouleError

TOLERANCE_W: Final = 1.0
"""Limits are kept in whole milliwatts, and some drivers round to watts."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of one GPU with a journal."""

    uuid: str
    limit_w: float | None = None
    """The limit put back; ``None`` if it had not been changed."""
    clock_unlocked: bool = False
    left: str | None = None
    """Why it was left as it is; ``None`` if it is as it was found."""


def put_back(folder: Path, gpu: Gpu, found: Found) -> None:
    """Makes ``gpu`` as it was found, and forgets the journal. Raises RejouleError, and keeps it, if it is not.

    The caller holds the GPU's lock.
    """
    try:
        if not found.stale:
            if found.clock_locked:
                gpu.unlock_sm_clock()
            if found.limit_w is not None:
                gpu.set_power_limit_w(found.limit_w)
                asked = requested_w(gpu)
                if asked is None or abs(asked - found.limit_w) > TOLERANCE_W:
                    raise RejouleError(
                        f"{gpu.uuid} was to go back to {found.limit_w:g} W and has {asked} W", "repeat: rejoule restore"
                    )
    except (NvmlRefused, GpuLost) as error:
        raise RejouleError(f"cannot put back {gpu.uuid}: {error}", "repeat as root: rejoule restore") from error
    journal.clear(folder, found.uuid)


def requested_w(gpu: Gpu) -> float | None:
    """The limit that was asked of a GPU, which a node's own limit may keep it from; the one in force, if unknown."""
    limits = gpu.limits()
    return limits.requested_w if limits.requested_w is not None else limits.in_force_w


def restore_journaled(folder: Path, uuids: Iterable[str] | None = None, *, wait_s: float = 0.0) -> tuple[Restored, ...]:
    """Puts back every GPU with a journal that no living ReJoule will act on; among ``uuids``, if given."""
    wanted = journal.journaled(folder)
    if uuids is not None:
        among = frozenset(uuids)
        wanted = tuple(uuid for uuid in wanted if uuid in among)
    return tuple(_restore(folder, uuid, wait_s) for uuid in wanted)


def _restore(folder: Path, uuid: str, wait_s: float) -> Restored:
    try:
        lock = GpuLock(folder, uuid, wait_s=wait_s)
    except RejouleError as error:
        return Restored(uuid, left=str(error))
    try:
        found = journal.read(folder, uuid)
        if found is None:
            return Restored(uuid)
        nvml = open_nvml([uuid])
        if nvml is None:
            return Restored(uuid, left="this machine has no such GPU, or its driver does not answer")
        with nvml:
            put_back(folder, nvml.gpus[0], found)
        return Restored(uuid, None if found.stale else found.limit_w, found.clock_locked and not found.stale)
    except (RejouleError, GpuLost) as error:
        return Restored(uuid, left=str(error))
    finally:
        lock.release()

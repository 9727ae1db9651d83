"""What each GPU was found with before the first change, on disk; and the lock that lets one ReJoule change it.

The folder is ``$REJOULE_STATE/knobs``, by default ``~/.local/state/rejoule/knobs``. For each GPU it holds ``UUID.json``
for as long as something is changed, and ``UUID.lock``. The lock is flock's, shared by the process that changes the GPU
and its watchdog, and the kernel lets go of it once both have ended. So a journal whose lock is free is one that nobody
will act on any more, whatever process has its number by now.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import msgspec

from rejoule.traces.decoding import DamagedError, decoded
from rejoule.traces.errors import RejouleError
from rejoule.traces.seal import sealed, unsealed

POLL_S: Final = 0.02
ELSEWHERE: Final = "name a folder of yours in REJOULE_STATE"
BY_HAND: Final = "look at the limits with nvidia-smi -q -d POWER, set them with nvidia-smi -pl, then remove the file"


@dataclass(frozen=True, slots=True)
class Found:
    """One GPU as it was before the first change."""

    uuid: str
    limit_w: float | None = None
    """The power limit that was requested of it; ``None`` while that is not changed."""
    clock_locked: bool = False
    """Whether a lock was put on its SM clock. NVML cannot tell which lock, if any, was there before."""
    pid: int = 0
    """Of the process that changes it, for people."""
    boot: str = ""
    """Which start of the machine this was in: a limit does not outlive its driver."""

    @property
    def stale(self) -> bool:
        """Whether the machine was started anew since."""
        return self.boot != boot_id()


_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


def knobs_folder() -> Path:
    """Where journals and locks are."""
    if given := os.environ.get("REJOULE_STATE"):
        return Path(given).absolute() / "knobs"
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local/state") / "rejoule" / "knobs"


def boot_id() -> str:
    """Differs from one start of the machine to the next; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def write(folder: Path, found: Found) -> None:
    """Keeps it, on disk before this returns. Raises RejouleError if it cannot."""
    place = folder / f"{found.uuid}.json"
    aside = folder / f".{found.uuid}.json"
    try:
        with aside.open("wb") as file:
            file.write(sealed(found, option=0))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(place)
        _sync(folder)
    except OSError as error:
        raise _unusable(folder, error) from error


def read(folder: Path, uuid: str) -> Found | None:
    """What is kept of a GPU. Raises RejouleError for a journal that cannot be read."""
    file = folder / f"{uuid}.json"
    try:
        return msgspec.convert(unsealed(decoded(file.read_bytes(), _object), required=False), Found)
    except FileNotFoundError:
        return None
    except (OSError, DamagedError, msgspec.ValidationError) as error:
        raise RejouleError(f"cannot read {file}: {error}", BY_HAND) from error


def clear(folder: Path, uuid: str) -> None:
    """Forgets a GPU: it is as it was found."""
    with suppress(FileNotFoundError):
        (folder / f"{uuid}.json").unlink()
        _sync(folder)


def journaled(folder: Path) -> tuple[str, ...]:
    """UUIDs of the GPUs that have a journal. Raises RejouleError where nobody can tell."""
    try:
        files = [*folder.iterdir()]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise RejouleError(
            f"cannot read {folder}: {error.strerror}; it would say what an experiment left changed", ELSEWHERE
        ) from error
    return tuple(sorted(p.stem for p in files if p.suffix == ".json" and not p.name.startswith(".")))


def writable(folder: Path) -> bool:
    """Whether journals could be written, judged by permissions: nothing is made to try it."""
    there = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


class GpuLock:
    """Held while a GPU may differ from how it was found."""

    def __init__(self, folder: Path, uuid: str, *, wait_s: float = 0.0) -> None:
        """Takes the lock. Raises RejouleError if another ReJoule still has it after ``wait_s``."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.fd = os.open(folder / f"{uuid}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unusable(folder, error) from error
        deadline_s = monotonic() + wait_s
        while not self._taken():
            if monotonic() >= deadline_s:
                holder = os.pread(self.fd, 32, 0).decode() or "unknown"
                os.close(self.fd)
                raise RejouleError(
                    f"another ReJoule, process {holder}, sets the power cap or the clock of {uuid}",
                    "wait for it to end",
                )
            sleep(POLL_S)
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, str(os.getpid()).encode(), 0)

    def _taken(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Lets go of it; a watchdog that shares it may hold it a moment longer."""
        os.close(self.fd)


def _sync(folder: Path) -> None:
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(at)
    finally:
        os.close(at)


def _unusable(folder: Path, error: OSError) -> RejouleError:
    return RejouleError(
        f"cannot write {folder}: {error.strerror}; without a journal nothing is changed",
        ELSEWHERE,
    )

"""Where a page is written: over an earlier page, never over anything else unasked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from rejoule.traces.errors import RejouleError

MARK: Final = '<meta name="generator" content="ReJoule'
"""What the first bytes of every page hold."""
_HEAD: Final = 512


def check(path: Path, force: bool = False) -> None:
    """Raise RejouleError if something other than a page is there."""
    try:
        if path.is_dir():
            raise RejouleError(f"{path} is a folder", "name a file with -o")
        if force or not path.is_file() or path.stat().st_size == 0:
            return
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise _unwritable(path, error) from error
    if MARK.encode() not in head:
        raise RejouleError(f"{path} exists and is not a report", "choose another path with -o, or pass --force")


def write(path: Path, page: bytes) -> None:
    """Wholly, or not at all."""
    place = path.resolve()
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        if place.exists() and not place.is_file():
            # A pipe or a device.
            place.write_bytes(page)
            return
        try:
            with aside.open("wb") as file:
                file.write(page)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(place)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> RejouleError:
    return RejouleError(f"cannot write {path}: {error.strerror}", "choose another path with -o")

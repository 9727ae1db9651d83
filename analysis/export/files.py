"""Writes what a format made: each file wholly, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from rejoule.analysis.export.exported import Exported
from rejoule.traces.errors import RejouleError


def check(path: Path, made: Exported, force: bool) -> None:
    """Raises RejouleError for what would be written over unasked, or does not fit."""
    if made.single and path.is_dir():
        raise RejouleError(f"{path} is a folder", "name a file with -o")
    if not made.single and path.exists() and not path.is_dir():
        raise RejouleError(f"{path} is a file, and there are {len(made.files)} to write", "name a folder with -o")
    taken = [place for place in _places(path, made) if place.exists()]
    if taken and not force:
        raise RejouleError(f"{taken[0]} exists", "choose another path with -o, or pass --force")


def write(path: Path, made: Exported) -> list[Path]:
    """The paths that were written. Raises RejouleError."""
    places = _places(path, made)
    try:
        if not made.single:
            path.mkdir(parents=True, exist_ok=True)
        for place, content in zip(places, made.files.values(), strict=True):
            _write(place, content)
    except OSError as error:
        raise RejouleError(f"cannot write {path}: {error.strerror}", "choose another path with -o") from error
    return places


def _places(path: Path, made: Exported) -> list[Path]:
    return [path] if made.single else [path / name for name in made.files]


def _write(place: Path, content: bytes) -> None:
    if place.exists() and not place.is_file():
        # A pipe or a device.
        place.write_bytes(content)
        return
    aside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        aside.write_bytes(content)
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)

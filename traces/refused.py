"""Runs that an experiment left out because their knobs could not be had: ``RUNS/refused.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import orjson

from rejoule.traces.decoding import DamagedError, decoded
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Configuration

FILE: Final = "refused.json"


@dataclass(frozen=True, slots=True)
class Refused:
    run: str
    configuration: Configuration
    reason: str


_REFUSED: Final = msgspec.json.Decoder(tuple[Refused, ...]).decode


def save_refused(folder: Path, refused: Sequence[Refused]) -> None:
    """Keeps what the latest pass left out; nothing, and the file goes."""
    try:
        if not refused:
            (folder / FILE).unlink(missing_ok=True)
            return
        (folder / FILE).write_bytes(orjson.dumps(list(refused), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise RejouleError(f"cannot write {folder / FILE}: {error.strerror}", "choose another folder") from error


def load_refused(folder: Path) -> tuple[Refused, ...]:
    """What the latest pass over a run folder left out."""
    try:
        return decoded((folder / FILE).read_bytes(), _REFUSED)
    except FileNotFoundError:
        return ()
    except (OSError, DamagedError) as error:
        raise RejouleError(f"cannot read {folder / FILE}: {error}", "repeat the experiment") from error

"""Runs that an experiment left out because their knobs could not be had: ``RUNS/refused.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from rejoule.traces.decoding import DamagedError, decoded
from rejoule.traces.errors import RejouleError
from rejoule.traces.run import Configuration
from rejoule.traces.seal import sealed, unsealed

FILE: Final = "refused.json"


@dataclass(frozen=True, slots=True)
class Refused:
    run: str
    configuration: Configuration
    reason: str


_body: Final = msgspec.json.Decoder(dict[str, Any] | list[Any]).decode


def save_refused(folder: Path, refused: Sequence[Refused]) -> None:
    """Keeps what the latest pass left out; nothing, and the file goes."""
    try:
        if not refused:
            (folder / FILE).unlink(missing_ok=True)
            return
        (folder / FILE).write_bytes(sealed({"refused": list(refused)}))
    except OSError as error:
        raise RejouleError(f"cannot write {folder / FILE}: {error.strerror}", "choose another folder") from error


def load_refused(folder: Path) -> tuple[Refused, ...]:
    """What the latest pass over a run folder left out."""
    try:
        body = decoded((folder / FILE).read_bytes(), _body)
        # A bare list is from before there were seals.
        listed = unsealed(body, required=True).get("refused") if isinstance(body, dict) else body
        return msgspec.convert(listed, tuple[Refused, ...])
    except FileNotFoundError:
        return ()
    except (OSError, DamagedError, msgspec.ValidationError) as error:
        raise RejouleError(f"cannot read {folder / FILE}: {error}", "repeat the experiment") from error

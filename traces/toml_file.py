"""TOML files that a user writes, read into a type that says what they may hold."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

import msgspec

from rejoule.traces.errors import RejouleError

T = TypeVar("T")


def read_toml(path: Path, kind: type[T], called: str, remedy: str) -> T:
    """Raises RejouleError, in one line, naming the file and the key that is wrong; ``called`` is what it should be."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), kind)
    except OSError as error:
        raise RejouleError(f"cannot read {path}: {error.strerror}", f"give the path of {called}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise RejouleError(f"{path}: {' '.join(str(error).split())}", remedy) from None
    except RecursionError:
        raise RejouleError(f"{path}: nested too deeply", remedy) from None

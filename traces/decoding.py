"""From stored bytes to a checked value: one way in for every stored format, and one error for all that can be wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, TypeVar

import msgspec
import orjson
import zstandard

T = TypeVar("T")

LONGEST_LINE: Final = 256 << 20
"""Bytes; a call of a million tokens, its text and its ids take a tenth of that."""
_PIECE: Final = 1 << 18
_PACKED_PIECE: Final = 1 << 10
"""Bytes; at the most dense, a block of 128 KiB for every 4 of them, they unpack to 32 MiB."""
_HUGE: Final = re.compile(rb"\d{19}")
"""Of integers that may not fit into 64 bits; digests and texts have such digits, too."""


class DamagedError(Exception):
    """Stored bytes are not what they should be; the reader says where, and what to do."""


def decoded(data: bytes, decode: Callable[[bytes], T]) -> T:
    """What msgspec's ``decode`` makes of JSON. Raises DamagedError, and nothing else, whatever the bytes are."""
    try:
        value = decode(data)
        if _HUGE.search(data):
            orjson.dumps(msgspec.to_builtins(value))  # what could not be written again is not ours
        return value
    except msgspec.ValidationError as error:
        raise DamagedError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedError(f"not JSON in UTF-8: {error}") from None
    except RecursionError:
        raise DamagedError("nested too deeply") from None
    except orjson.JSONEncodeError:
        raise DamagedError("a whole number beyond 64 bits") from None


def lines_of(file: BinaryIO, *, compressed: bool) -> Iterator[bytes]:
    """The lines of a file, each with its end, but for a last one that was cut.

    Raises DamagedError for a line that is longer than any that is written: a small file can unpack to any size. A
    compressed file that was cut gives all that lies before the cut, one that is damaged ends in a line of ``\\\\0``.
    """
    rest = b""
    for piece in _unpacked(file) if compressed else iter(lambda: file.read(_PIECE), b""):
        first, *more = piece.split(b"\n")
        rest += first
        for line in more:
            yield rest + b"\n"
            rest = line
        if len(rest) > LONGEST_LINE:
            raise DamagedError(f"a line of more than {LONGEST_LINE >> 20} MiB")
    if rest:
        yield rest


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    unpack = zstandard.ZstdDecompressor().decompressobj()
    try:
        while piece := file.read(_PACKED_PIECE):
            yield unpack.decompress(piece)
    except zstandard.ZstdError:
        yield b"\0"

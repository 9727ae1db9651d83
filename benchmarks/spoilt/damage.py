"""What happens to bytes: bits that flip, stretches that are lost, doubled, swapped or written over, nonsense put in."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import zstandard

NONSENSE: Final = (
    b"\xff", b"\x00", b"\x1b]52;c;eA==\x1b\\", b"null", b"-1", b"1e308", b"1e999", b"NaN", b'"', b"{}", b"[]",
    b"[" * 3000, b"9" * 23, b'"\\ud800"', b"\r\n", b"../../",
)  # fmt: skip


def flipped(body: bytes, source: Random) -> bytes:
    at = source.randrange(len(body))
    return body[:at] + bytes([body[at] ^ 1 << source.randrange(8)]) + body[at + 1 :]


def overwritten(body: bytes, source: Random) -> bytes:
    at, length = source.randrange(len(body)), source.choice([1, 4, 20, 200])
    return body[:at] + source.randbytes(min(length, len(body) - at)) + body[at + length :]


def nonsense(body: bytes, source: Random) -> bytes:
    at, length = source.randrange(len(body) + 1), source.choice([0, 0, 1, 2, 20])
    return body[:at] + source.choice(NONSENSE) + body[at + length :]


def another_digit(body: bytes, source: Random) -> bytes:
    """The damage that is hardest to see: a number that is as good as the one that was there."""
    places = [i for i, byte in enumerate(body) if chr(byte).isdigit()]
    if not places:
        return flipped(body, source)
    at = source.choice(places)
    return body[:at] + str(source.randrange(10)).encode() + body[at + 1 :]


def lost(body: bytes, source: Random) -> bytes:
    at = source.randrange(len(body))
    return body[:at] + body[at + source.choice([1, 10, 1000]) :]


def cut(body: bytes, source: Random) -> bytes:
    return body[: source.randrange(len(body))]


def doubled(body: bytes, source: Random) -> bytes:
    at, length = source.randrange(len(body)), source.choice([1, 10, 1000])
    return body[: at + length] + body[at:]


def swapped(body: bytes, source: Random) -> bytes:
    """Two of its lines."""
    lines = body.splitlines(keepends=True)
    a, b = source.randrange(len(lines)), source.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"".join(lines)


DAMAGES: Final[tuple[Callable[[bytes, Random], bytes], ...]] = (
    flipped, overwritten, nonsense, another_digit, lost, cut, doubled, swapped,
)  # fmt: skip


def spoilt(whole: bytes, source: Random, *, compressed: bool) -> bytes:
    """A file's bytes after some damage; of a compressed one, half the time to what is in it."""
    inside = compressed and source.random() < 0.5
    body = zstandard.ZstdDecompressor().decompressobj().decompress(whole) if inside else whole
    body = source.choice(DAMAGES)(body, source)
    return zstandard.ZstdCompressor().compress(body) if inside else body

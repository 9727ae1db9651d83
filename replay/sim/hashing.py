"""Hashes of blocks of tokens, chained over everything before them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from struct import pack

import numpy as np
import numpy.typing as npt

Ids = Sequence[int] | npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def as_array(ids: Ids) -> npt.NDArray[np.int64]:
    """Token ids as an array of 64-bit integers."""
    if isinstance(ids, np.ndarray):
        return ids.astype(np.int64, copy=False)
    return np.frombuffer(pack(f"{len(ids)}q", *ids), dtype=np.int64)


def block_hashes(ids: Ids, block_size: int, salt: str | None = None) -> list[int]:
    """The chained hash of every full block of ``ids``, 64 bits each.

    Each block's tokens are weighed with random constants and summed (a multilinear hash), and the sum with the block's
    place is mixed (splitmix64). A block's hash is the sum of these up to it, modulo 2**64: equal when everything before
    is equal, otherwise not (but for chance), and computed without a loop.
    """
    count = len(ids) // block_size
    blocks = as_array(ids)[: count * block_size].view(np.uint64).reshape(count, block_size)
    sums = np.add.accumulate(_mixed(blocks @ _weights(block_size) + _places(count)))
    if salt is not None:
        sums += np.uint64(int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "big"))
    hashes: list[int] = sums.tolist()
    return hashes


def _places(count: int) -> Words:
    return np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN


@cache
def _weights(count: int) -> Words:
    return _mixed(_places(count)) | np.uint64(1)


def _mixed(z: Words) -> Words:
    """The finish of splitmix64."""
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))

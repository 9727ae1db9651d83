"""How many prompt tokens of each call the prefix cache must have held, and how many it can have held at most.

A block of tokens is known by itself and all before it. When a call is sent, the cache holds at least the blocks of the
calls that had ended by then, and at most those of all calls sent before it, unless blocks were evicted for want of
room. vLLM looks up whole blocks only, and never a prompt's last token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np


@dataclass(frozen=True, slots=True)
class Served:
    """One call as the server saw it. Times are seconds on one clock."""

    id: str
    sent_s: float
    end_s: float
    prompt: Sequence[int]
    output: Sequence[int]


def cached_bounds(served: Sequence[Served], block_size: int) -> dict[str, tuple[int, int]]:
    """For each call, the least and the most of its prompt's tokens that the cache can have held."""
    ended = sorted(served, key=lambda call: (call.end_s, call.id))
    surely: set[bytes] = set()
    possibly: set[bytes] = set()
    bounds: dict[str, tuple[int, int]] = {}
    done = 0
    blocks = {call.id: list(_blocks([*call.prompt, *call.output], block_size)) for call in served}
    for call in sorted(served, key=lambda call: (call.sent_s, call.id)):
        while done < len(ended) and ended[done].end_s <= call.sent_s:
            before = ended[done]
            # The last token of an answer is never computed.
            surely.update(blocks[before.id][: (len(before.prompt) + len(before.output) - 1) // block_size])
            done += 1
        possibly |= surely
        own = blocks[call.id][: (len(call.prompt) - 1) // block_size]
        bounds[call.id] = (_hits(own, surely) * block_size, _hits(own, possibly) * block_size)
        possibly.update(blocks[call.id])
    return bounds


def _hits(own: Sequence[bytes], known: set[bytes]) -> int:
    return next((i for i, block in enumerate(own) if block not in known), len(own))


def _blocks(ids: Sequence[int], block_size: int) -> Iterator[bytes]:
    """Digests of the whole blocks, each over the block and the digest before it."""
    raw, size, before = np.array(ids, dtype=np.int64).tobytes(), 8 * block_size, b""
    for start in range(0, len(raw) - size + 1, size):
        before = blake2b(before + raw[start : start + size], digest_size=16).digest()
        yield before

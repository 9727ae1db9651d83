"""How many prompt tokens of each call the prefix cache must have held, and how many it can have held at most.

A block of tokens is known by itself and all before it. When a call is sent, the cache holds at least the blocks of the
calls that had ended by then, and when its prompt is looked up at most those of all calls sent before its first token,
unless blocks were evicted for want of room: a call that is sent later may overtake it in the server. vLLM looks up
whole blocks only, and never a prompt's last token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import takewhile
from math import inf

import numpy as np


@dataclass(frozen=True, slots=True)
class Served:
    """One call as the server saw it. Times are seconds on one clock."""

    id: str
    sent_s: float
    end_s: float
    prompt: Sequence[int]
    output: Sequence[int]
    """That it can have made, at most."""
    first_token_s: float | None = None
    done: bool = True
    """Whether it made all of it; of a call that failed, nothing is known to have stayed."""


def cached_bounds(served: Sequence[Served], block_size: int) -> dict[str, tuple[int, int]]:
    """For each call, the least and the most of its prompt's tokens that the cache can have held."""
    blocks = {call.id: list(_blocks([*call.prompt, *call.output], block_size)) for call in served}
    surely_s: dict[bytes, float] = {}
    possibly_s: dict[bytes, list[tuple[float, str]]] = {}
    for call in served:
        # The last token of an answer is never computed.
        sure = len(call.prompt) + len(call.output) - 1 if call.done else 0
        for block in blocks[call.id][: sure // block_size]:
            surely_s[block] = min(surely_s.get(block, call.end_s), call.end_s)
        for block in blocks[call.id]:
            first = possibly_s.setdefault(block, [])
            # Two are enough: the earliest that is not the call itself.
            first.append((call.sent_s, call.id))
            first.sort()
            del first[2:]

    def surely(block: bytes, call: Served) -> bool:
        return block in surely_s and surely_s[block] <= call.sent_s

    def possibly(block: bytes, call: Served) -> bool:
        by_s = call.end_s if call.first_token_s is None else call.first_token_s
        return any(sent_s < by_s and name != call.id for sent_s, name in possibly_s.get(block, ()))

    bounds: dict[str, tuple[int, int]] = {}
    for call in served:
        own = blocks[call.id][: (len(call.prompt) - 1) // block_size]
        low, high = (_leading(known(block, call) for block in own) for known in (surely, possibly))
        bounds[call.id] = (low * block_size, high * block_size)
    return bounds


def last_held_s(call: Served, tokens: int, served: Iterable[Served]) -> float:
    """When the last of the calls was sent that had ended before this one was sent and held the first ``tokens`` of its
    prompt; minus infinity if none had."""
    head = [*call.prompt[:tokens]]
    before = (one for one in served if one.done and one.end_s <= call.sent_s)
    return max((one.sent_s for one in before if [*one.prompt, *one.output][:tokens] == head), default=-inf)


def _leading(known: Iterable[bool]) -> int:
    return sum(1 for _ in takewhile(bool, known))


def _blocks(ids: Sequence[int], block_size: int) -> Iterator[bytes]:
    """Digests of the whole blocks, each over the block and the digest before it."""
    raw, size, before = np.array(ids, dtype=np.int64).tobytes(), 8 * block_size, b""
    for start in range(0, len(raw) - size + 1, size):
        before = blake2b(before + raw[start : start + size], digest_size=16).digest()
        yield before

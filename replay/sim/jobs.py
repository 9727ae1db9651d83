"""Requests: as they are sent, and on their way through the engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rejoule.replay.sim.hashing import Ids, as_array, block_hashes
from rejoule.replay.sim.prefix_cache import Lease


@dataclass(frozen=True, slots=True)
class SimRequest:
    """One request: its prompt and exactly how much it will answer.

    ``output_ids`` are the answer's ids when they are known, so that a later prompt that quotes them hits the cache;
    otherwise only their number, ``output_tokens``, matters. A lower ``priority`` is served sooner. Its sender learns of
    every number of tokens in ``tell_at``, rising, when they have come.
    """

    id: str
    prompt_ids: Ids
    output_tokens: int
    output_ids: Ids | None = None
    priority: int = 0
    cache_salt: str | None = None
    tell_at: tuple[int, ...] = ()


class Job:
    """A request on its way through the engine. Token counts are of tokens whose keys and values are in the cache.

    While it is ``decoding``, its length is ``base`` plus the tick, and ``computed`` and ``produced`` are out of date.
    """

    __slots__ = (
        "arrival_s",
        "base",
        "block_hashes",
        "cached",
        "computed",
        "decoding",
        "finish_tick",
        "lease",
        "number",
        "preemptions",
        "produced",
        "prompt_tokens",
        "request",
        "seat",
        "told",
    )

    def __init__(self, request: SimRequest, arrival_s: float, number: int) -> None:
        self.request = request
        self.arrival_s = arrival_s
        self.number = number
        self.prompt_tokens = len(request.prompt_ids)
        self.lease = Lease()
        self.computed = 0
        self.produced = 0
        self.base = 0
        self.decoding = False
        self.finish_tick = -1
        self.seat = -1
        self.cached: int | None = None
        self.preemptions = 0
        self.told = 0
        """How many numbers of tokens its sender has learned of."""
        self.block_hashes: list[int] = []

    @property
    def tells_next(self) -> int | None:
        """The next number of tokens that its sender has to learn of."""
        tell_at = self.request.tell_at
        return tell_at[self.told] if self.told < len(tell_at) else None

    @property
    def rank(self) -> tuple[int, float, int]:
        """Order under the priority policy: smaller is sooner."""
        return self.request.priority, self.arrival_s, self.number

    @property
    def rest(self) -> int:
        """Tokens of its prompt, and of what it had answered when it was preempted, that are yet to be computed."""
        return self.prompt_tokens + self.produced - self.computed

    def computed_at(self, tick: int) -> int:
        """How many of its tokens have been computed by ``tick``."""
        return self.base + tick if self.decoding else self.computed

    def produced_at(self, tick: int) -> int:
        """How many tokens it has answered by ``tick``."""
        return self.base + tick - self.prompt_tokens + 1 if self.decoding else self.produced

    def hashes(self, block_size: int) -> list[int]:
        """The block hashes of prompt and answer, computed once."""
        if not self.block_hashes:
            request = self.request
            if request.output_ids is not None:
                output = as_array(request.output_ids)
            else:
                # Nobody knows these tokens: ids that no prompt has, and no other request.
                output = -1 - (self.number << 24) - np.arange(request.output_tokens, dtype=np.int64)
            self.block_hashes = block_hashes(
                np.concatenate((as_array(request.prompt_ids), output)), block_size, request.cache_salt
            )
        return self.block_hashes

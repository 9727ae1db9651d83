"""Whether the calls of a run found in the prefix cache what they must have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from rejoule.replay.exactness.expected_cache import Served, cached_bounds
from rejoule.traces.evicted import full_from_s
from rejoule.traces.loops import pass_of
from rejoule.traces.run import CallResult


@dataclass(frozen=True, slots=True)
class CacheVerdict:
    """Of one run."""

    violations: tuple[str, ...] = ()
    expected_tokens: tuple[int, int] | None = None
    """The least and the most that a cache which never ran out of room can have held; ``None`` if nobody knows."""
    evicted_calls: int | None = None
    """Calls that found less than that, when there may have been no room."""


def cache_verdict(
    results: Sequence[CallResult], served: Sequence[Served], block_size: int, blocks: int | None
) -> CacheVerdict:
    """Of what each call of ``results`` asked and was answered; with ``blocks`` unknown, none had to be evicted."""
    passes: dict[int, list[Served]] = {}
    for one in served:
        passes.setdefault(pass_of(one.id), []).append(one)
    bounds = {name: found for each in passes.values() for name, found in cached_bounds(each, block_size).items()}
    cached = {result.id: result.cached_tokens for result in results}
    computed = [(one.sent_s, len(one.prompt) + len(one.output) - (cached[one.id] or 0)) for one in served]
    full_s = inf if blocks is None else full_from_s(computed, block_size, blocks)
    violations, evicted = [], 0
    for result in results:
        found, (least, most) = result.cached_tokens, bounds[result.id]
        looked_s = result.end_s if result.first_token_s is None else result.first_token_s
        if found is None or least <= found <= most:
            continue
        if found < least and looked_s > full_s:
            evicted += 1
        else:
            violations.append(f"{result.id} found {found} tokens in the prefix cache, expected {(least, most)}")
    low, high = zip(*bounds.values(), strict=True) if bounds else ((), ())
    return CacheVerdict(tuple(violations), (sum(low), sum(high)) if bounds else None, evicted)

"""Whether the calls of a run found in the prefix cache what they must have found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import NamedTuple

from rejoule.replay.exactness.expected_cache import Served, cached_bounds, last_held_s
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


@dataclass(frozen=True, slots=True)
class Caches:
    """The prefix caches of a server: one, or one of each data-parallel engine."""

    block_size: int
    blocks: tuple[int | None, ...]
    """How many each has; ``None`` if that is not known."""
    of: Mapping[str, int] | None = None
    """Of several, in which a call was looked up; ``None`` if nobody knows. A call that is not there was in none, or,
    where it found something or nothing, is not known of."""


def cache_verdict(results: Sequence[CallResult], served: Sequence[Served], caches: Caches) -> CacheVerdict:
    """Of what each call of ``results`` asked and was answered; with a cache's blocks unknown, none had to be evicted.

    Of several caches each is judged by the calls that were looked up in it. Where that is not known of each, who
    found little may have been looked up in one that held little: only more than all can have held is a violation.
    """
    if len(caches.blocks) == 1:
        return _of_one(results, served, caches.block_size, caches.blocks[0])
    at = caches.of
    if at is None or any(result.cached_tokens is not None and result.id not in at for result in results):
        found = _of_one(results, served, caches.block_size, None, at_least=False)
        return replace(found, evicted_calls=None)
    parts = []
    for cache, blocks in enumerate(caches.blocks):
        mine = {call for call, its in at.items() if its == cache}
        kept = [r for r in results if r.id in mine], [one for one in served if one.id in mine]
        parts.append(_of_one(*kept, caches.block_size, blocks))
    bounds = [part.expected_tokens for part in parts if part.expected_tokens is not None]
    return CacheVerdict(
        tuple(violation for part in parts for violation in part.violations),
        (sum(low for low, _ in bounds), sum(high for _, high in bounds)) if bounds else None,
        sum(part.evicted_calls or 0 for part in parts),
    )


def _of_one(
    results: Sequence[CallResult],
    served: Sequence[Served],
    block_size: int,
    blocks: int | None,
    at_least: bool = True,
) -> CacheVerdict:
    passes: dict[int, list[Served]] = {}
    for one in served:
        passes.setdefault(pass_of(one.id), []).append(one)
    bounds = {name: found for each in passes.values() for name, found in cached_bounds(each, block_size).items()}
    if not at_least:
        bounds = {name: (0, most) for name, (_, most) in bounds.items()}
    asked = {one.id: one for one in served}
    uses = [_use(asked[result.id], result, block_size) for result in results]
    violations, evicted = [], 0
    for result in results:
        found, (least, most) = result.cached_tokens, bounds[result.id]
        if found is None or least <= found <= most:
            continue
        looked_s = result.end_s if result.first_token_s is None else result.first_token_s
        others = [use for use in uses if use.id != result.id and use.sent_s < looked_s]
        held_s = last_held_s(asked[result.id], least, passes[pass_of(result.id)]) if found < least else inf
        if found < least and blocks is not None and _may_evict(others, held_s, blocks):
            evicted += 1
        else:
            violations.append(f"{result.id} found {found} tokens in the prefix cache, expected {(least, most)}")
    low, high = zip(*bounds.values(), strict=True) if bounds else ((), ())
    return CacheVerdict(tuple(violations), (sum(low), sum(high)) if bounds else None, evicted)


class _Use(NamedTuple):
    """Blocks that a call had at most, and those of them that were not in the cache."""

    id: str
    sent_s: float
    end_s: float
    held: int
    new: int


def _use(asked: Served, result: CallResult, block_size: int) -> _Use:
    tokens = len(asked.prompt) + len(asked.output)
    # Whoever is put out gives its blocks back, and takes others when it goes on; who was not told of may have been.
    turns = 1 + (1 if result.preemptions is None else result.preemptions)
    held, new = (ceil(each / block_size) for each in (tokens, tokens - (result.cached_tokens or 0)))
    return _Use(asked.id, asked.sent_s, asked.end_s, turns * held, turns * new)


def _may_evict(others: Sequence[_Use], held_s: float, blocks: int) -> bool:
    """Whether a prefix that a call held which was sent at ``held_s`` may have had to give way to these.

    Blank blocks are taken first, then those that were used longest ago; one of ``blocks`` is vLLM's own.
    """
    return sum(use.new for use in others) >= blocks <= sum(use.held for use in others if use.end_s > held_s)

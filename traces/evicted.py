"""Calls that found less in the prefix cache than was computed before them, since its blocks had to be given up.

They did the work that was asked for all the same. What may have been evicted a run finds out as it ends. Of runs of
before, which hold no prompts, less is known: a cache with room for everything that is computed keeps it all, and from
when on there may have been no room, every call may find less.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil, inf
from typing import Final

from rejoule.traces.run import Run
from rejoule.traces.words import counted

LISTED: Final = re.compile(
    r"(?P<call>.+) found (?P<found>\d+) tokens in the prefix cache, expected \((?P<least>\d+), \d+\)"
)
"""How a run said of one of them that it was a violation, before they were counted."""


def full_from_s(computed: Iterable[tuple[float, int]], block_size: int, blocks: int) -> float:
    """The time from which on a cache of so many blocks may have evicted some; infinite if it never had to.

    ``computed`` has for each call when it was sent, and how many tokens of its prompt and answer were not in the cache.
    No more blocks are in use than those that they fill; one of ``blocks`` is vLLM's own.
    """
    taken = 0
    for sent_s, tokens in sorted(computed):
        taken += ceil(tokens / block_size)
        if taken >= blocks:
            return sent_s
    return inf


def eviction_notes(runs: Sequence[Run]) -> Iterator[str]:
    """What a reader must know of runs of which some found less for want of room; older runs do not say."""
    several = [run for run in runs if _unknown(run)]
    if several:
        engines = ", ".join(dict.fromkeys(str(run.engine["data_parallel_size"]) for run in several))
        yield (
            f"the server has {engines} engines with a prefix cache each, and which of them answered a call is not "
            "known (step_tap=true tells): whether calls found what was computed before them is not judged"
        )
    full = [run for run in runs if run.certificate.evicted_calls]
    if full:
        short, calls = sum(run.certificate.evicted_calls or 0 for run in full), sum(len(run.calls) for run in full)
        blocks = ", ".join(dict.fromkeys(f"{run.engine['num_gpu_blocks']:,}" for run in full))
        yield (
            f"the prefix cache was too small: {short:,} of {counted(calls, 'call')} found less there than had been "
            f"computed before, when blocks may have been evicted (there are {blocks}); more KV blocks (num_gpu_blocks, "
            "gpu_memory_utilization) end that"
        )


def _unknown(run: Run) -> bool:
    """Whether its calls were looked up in one of several caches, and nobody knows in which."""
    held = run.certificate
    engines = run.engine.get("data_parallel_size") or 1
    return engines > 1 and held.expected_cached_tokens is not None and held.evicted_calls is None


def told_apart(run: Run) -> Run:
    """A run whose violations list what was evicted, too: those that want of room explains are counted instead."""
    held = run.certificate
    blocks, size = run.engine.get("num_gpu_blocks"), run.engine.get("block_size")
    known = [c for c in run.calls if c.prompt_tokens is not None and c.output_tokens is not None]
    if held.expected_cached_tokens is None or len(known) < len(run.calls):
        return run
    if not isinstance(blocks, int) or not isinstance(size, int) or size < 1:
        return run
    news = [(c.sent_s, (c.prompt_tokens or 0) + (c.output_tokens or 0) - (c.cached_tokens or 0)) for c in known]
    full_s = full_from_s(news, size, blocks)
    late = {c.id for c in known if (c.end_s if c.first_token_s is None else c.first_token_s) > full_s}
    told = {violation: LISTED.fullmatch(violation) for violation in held.violations}
    short = {v for v, t in told.items() if t and int(t["found"]) < int(t["least"]) and t["call"] in late}
    stay = tuple(violation for violation in held.violations if violation not in short)
    return replace(run, certificate=replace(held, violations=stay, evicted_calls=len(short)))

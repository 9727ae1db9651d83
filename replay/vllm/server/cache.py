"""A cold prefix cache between trials: asked for, and proven from the server's own counters.

A probe prompt is sent twice before the reset and once after it. The second must hit, which shows that the counters
see hits; the third must not. vLLM drops its whole cache or nothing of it, so a probe that was in the cache a moment
ago and misses now proves the rest. That holds where vLLM answers the reset without a result (before 0.26), and for
each engine of a data-parallel server, whose answer tells of the first one only.

A fresh ``cache_salt`` for each trial would also keep trials apart, without a reset. But then the requests are not
the recorded ones, what earlier trials left is still to be evicted, and nothing is proven; so it is not used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import aiohttp

from rejoule.replay.vllm.server.metrics import Counters, fetch_counters

IDLE_TIMEOUT_S = 30.0
RESET_TIMEOUT_S = 10.0
COUNT_TIMEOUT_S = 10.0
POLL_S = 0.02
PROBE_BLOCKS = 2
UNKNOWN_BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class ColdCache:
    """Whether a trial begins with a cold prefix cache, and how that is known."""

    cold: bool
    proof: str
    """One line for the certificate: what proves it, or what stands against it."""
    success: bool | None = None
    """What the server said of the reset; ``None`` if it said nothing, or was not asked."""


class _NoProofError(Exception):
    """Carries what stands against a cold cache."""


async def reset_prefix_cache(
    http: aiohttp.ClientSession, url: str, described: Mapping[str, Any], *, idle_timeout_s: float = IDLE_TIMEOUT_S
) -> ColdCache:
    """Empties the prefix cache of the server at ``url``, which ``described`` describes, once it is idle.

    Never raises for a server that refuses, lies or does not answer: that is what the result is for.
    """
    if described.get("prefix_caching") is False:
        return ColdCache(True, "prefix caching is off")
    success: bool | None = None
    try:
        await _until_idle(http, url, idle_timeout_s)
        probes = [_Probe(http, url, described, rank) for rank in range(described.get("data_parallel_size") or 1)]
        for probe in probes:
            await probe.hits()
            if await probe.hits() == 0:
                raise _NoProofError("a repeated prompt does not hit the prefix cache, so a reset cannot be proven")
        success = await _reset(http, url)
        if success is False:
            raise _NoProofError("the server refused to reset its prefix cache")
        found = [await probe.hits() for probe in probes]
        if any(found):
            raise _NoProofError(f"{sum(found)} tokens of a probe were still cached after the reset")
    except _NoProofError as against:
        return ColdCache(False, str(against), success)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        said = str(error) or "no answer"
        return ColdCache(False, f"the prefix cache could not be reset: {type(error).__name__}: {said}", success)
    return ColdCache(True, "a probe that hit before the reset missed after it", success)


class _Probe:
    """A fixed prompt of some whole blocks and one token more: vLLM always computes the last token."""

    def __init__(self, http: aiohttp.ClientSession, url: str, described: Mapping[str, Any], rank: int) -> None:
        block = described.get("block_size") or UNKNOWN_BLOCK_SIZE
        most = (described.get("max_model_len") or 1 << 30) - 1
        # Small ids, which every vocabulary has, in an order that no text has.
        ids = [5 + (7 * i + i // 13) % 89 for i in range(min(PROBE_BLOCKS * block + 1, most))]
        self._http, self._url = http, url
        self._headers = {"X-data-parallel-rank": str(rank)}
        self._body = {"model": described.get("model"), "prompt": ids, "max_tokens": 1, "temperature": 0}
        self._tokens = len(ids)

    async def hits(self) -> int:
        """Sends the probe; how many of its tokens the server counted as cached."""
        before = await fetch_counters(self._http, self._url)
        async with self._http.post(f"{self._url}/v1/completions", json=self._body, headers=self._headers) as response:
            if response.status != 200:
                raise _NoProofError(f"the server answered a probe of its cache with HTTP {response.status}")
            await response.read()
        return await self._counted(before)

    async def _counted(self, before: Counters) -> int:
        # Counters follow the answer; the looked-up tokens say when this probe is among them.
        deadline_s = monotonic() + COUNT_TIMEOUT_S
        while monotonic() < deadline_s:
            grown = (await fetch_counters(self._http, self._url)).since(before)
            if grown.prefix_cache_queries is None or grown.prefix_cache_hits is None:
                raise _NoProofError("the server does not count prefix cache hits")
            if grown.prefix_cache_queries > self._tokens:
                raise _NoProofError("the server answers others at the same time")
            if grown.prefix_cache_queries == self._tokens:
                return grown.prefix_cache_hits
            await asyncio.sleep(POLL_S)
        raise _NoProofError("the server's counters do not follow its answers")


async def _until_idle(http: aiohttp.ClientSession, url: str, timeout_s: float) -> None:
    deadline_s = monotonic() + timeout_s
    while not (counters := await fetch_counters(http, url)).idle:
        if monotonic() > deadline_s:
            raise _NoProofError(
                f"the server is not idle: {counters.running or 0} requests run, {counters.waiting or 0} wait"
            )
        await asyncio.sleep(POLL_S)


async def _reset(http: aiohttp.ClientSession, url: str) -> bool | None:
    # Blocks of a request that just ended may be held for another moment, so a refusal is not final at once.
    deadline_s = monotonic() + RESET_TIMEOUT_S
    while True:
        async with http.post(f"{url}/reset_prefix_cache") as response:
            if response.status == 404:
                raise _NoProofError("the server has no /reset_prefix_cache")
            if response.status != 200:
                raise _NoProofError(f"the server answered the reset with HTTP {response.status}")
            body = await response.json(content_type=None) if await response.read() else {}
        success = body.get("success") if isinstance(body, dict) else None
        if success is not False or monotonic() > deadline_s:
            return success if isinstance(success, bool) else None
        await asyncio.sleep(0.1)

"""vLLM's counters, as its ``/metrics`` tells them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

import aiohttp

NAMES = {
    "prompt_tokens": "vllm:prompt_tokens_total",
    "generation_tokens": "vllm:generation_tokens_total",
    "prefix_cache_queries": "vllm:prefix_cache_queries_total",
    "prefix_cache_hits": "vllm:prefix_cache_hits_total",
    "preemptions": "vllm:num_preemptions_total",
    "running": "vllm:num_requests_running",
    "waiting": "vllm:num_requests_waiting",
}
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters since the server started, summed over its engines; ``None`` where it has none of that name."""

    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    prefix_cache_queries: int | None = None
    """Prompt tokens that were looked up in the prefix cache."""
    prefix_cache_hits: int | None = None
    """Prompt tokens that were found in it."""
    preemptions: int | None = None
    running: int | None = None
    """Requests in the batch at this moment."""
    waiting: int | None = None

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    def since(self, before: Counters) -> Counters:
        """What was counted after ``before``; ``running`` and ``waiting`` stay as they are."""

        def grown(name: str) -> int | None:
            now: int | None = getattr(self, name)
            then: int | None = getattr(before, name)
            if name in ("running", "waiting"):
                return now
            return None if now is None or then is None else now - then

        return Counters(**{f.name: grown(f.name) for f in fields(self)})


def parse_counters(text: str) -> Counters:
    """Reads Prometheus text; what it does not hold is ``None``."""
    sums: dict[str, float] = {}
    for name, _, value in SAMPLE.findall(text):
        sums[name] = sums.get(name, 0.0) + float(value)
    return Counters(**{field: round(sums[name]) for field, name in NAMES.items() if name in sums})


def parse_cache_config(text: str) -> Mapping[str, str]:
    """The labels of ``vllm:cache_config_info``: ``num_gpu_blocks``, ``block_size`` and others, as text."""
    for name, labels, _ in SAMPLE.findall(text):
        if name == "vllm:cache_config_info":
            return dict(LABEL.findall(labels))
    return {}


async def fetch_counters(http: aiohttp.ClientSession, url: str) -> Counters:
    """The counters of the server whose root is ``url``. Raises aiohttp.ClientError or TimeoutError."""
    async with http.get(f"{url}/metrics", raise_for_status=True) as response:
        return parse_counters(await response.text())

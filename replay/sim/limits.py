"""What bounds a step of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Policy = Literal["fcfs", "priority"]


@dataclass(frozen=True, slots=True)
class Limits:
    """vLLM's options of the same names. ``long_prefill_token_threshold`` 0 is none."""

    max_num_seqs: int
    max_num_batched_tokens: int
    policy: Policy = "fcfs"
    long_prefill_token_threshold: int = 0
    enable_chunked_prefill: bool = True
    async_scheduling: bool = False

    def chunk(self, tokens: int) -> int:
        """How many of a prompt's ``tokens`` a step may compute, whatever else is in it."""
        threshold = self.long_prefill_token_threshold
        return min(tokens, threshold) if threshold else tokens

"""Options of a configuration that are about the run and not about the server that answers it."""

from __future__ import annotations

from typing import Final

RUN_OPTIONS: Final = (
    "silence_timeout_s", "first_token_timeout_s", "call_timeout_s",
    "one_model", "settle_s", "temperature_tolerance_c", "cool_down_s", "sampler", "warm_up", "warm_up_s", "idle_s",
)  # fmt: skip

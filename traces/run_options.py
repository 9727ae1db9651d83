"""Options of a configuration that are about the run and not about the server that answers it."""

from __future__ import annotations

from typing import Final

from rejoule.traces.run import OPTION

RUN_OPTIONS: Final = (
    "silence_timeout_s", "first_token_timeout_s", "call_timeout_s",
    "one_model", "settle_s", "temperature_tolerance_c", "cool_down_s", "sampler", "warm_up", "warm_up_s", "idle_s",
)  # fmt: skip


def of_the_run(knob: str) -> bool:
    """Whether a knob of a configuration is one of them: the server does the same whatever it is."""
    return knob.startswith(OPTION) and knob.removeprefix(OPTION) in RUN_OPTIONS

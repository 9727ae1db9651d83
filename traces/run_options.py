"""Options of a configuration that are about the run and not about the server that answers it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rejoule.traces.run import OPTION, Configuration

RUN_OPTIONS: Final = (
    "silence_timeout_s", "first_token_timeout_s", "call_timeout_s",
    "one_model", "settle_s", "temperature_tolerance_c", "cool_down_s", "sampler", "warm_up", "warm_up_s", "idle_s",
)  # fmt: skip
"""One server answers runs that differ in them."""
WATCHED: Final = ("ready_timeout_s", "step_tap")
"""How ReJoule watches a vLLM that it starts: it is started anew for them, and serves as it would."""


def of_the_run(knob: str) -> bool:
    """Whether a knob of a configuration says how its run was measured: the server does the same whatever it is."""
    return knob.startswith(OPTION) and knob.removeprefix(OPTION) in (*RUN_OPTIONS, *WATCHED)


def as_served(configuration: Configuration) -> Configuration:
    """Without what says how its run was measured: equal for runs that are trials of one thing."""
    kept = {name: value for name, value in configuration.options.items() if not of_the_run(f"{OPTION}{name}")}
    return replace(configuration, options=kept)

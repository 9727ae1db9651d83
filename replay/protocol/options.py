"""How much of the measuring protocol a configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from rejoule.traces import RejouleError


@dataclass(frozen=True, slots=True)
class ProtocolOptions:
    """Seconds; 0 leaves a part out."""

    warm_up_s: float = 30.0
    """Longest time that warm-up passes may take before a run on a server, or at a power cap, that was not in use."""
    idle_s: float = 6.0
    """Length of an idle baseline."""


def protocol_options(options: Mapping[str, Any]) -> ProtocolOptions:
    """The options ``warm_up`` (true or false), ``warm_up_s`` and ``idle_s`` among an engine's.

    Raises RejouleError for a value that is none.
    """
    warm_up = options.get("warm_up", True)
    if not isinstance(warm_up, bool):
        raise RejouleError(
            f"warm_up = {warm_up!r} is neither true nor false", "give warm_up=false, or a time: warm_up_s=60"
        )
    default = ProtocolOptions()
    warm_up_s = _seconds("warm_up_s", options.get("warm_up_s", default.warm_up_s))
    return ProtocolOptions(warm_up_s if warm_up else 0.0, _seconds("idle_s", options.get("idle_s", default.idle_s)))


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (isfinite(value) and value >= 0):
        raise RejouleError(f"{name} = {value!r} is no time", f"give seconds, as in {name}=10, or 0 to leave it out")
    return float(value)

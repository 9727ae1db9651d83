"""What a configuration asks of the GPUs, and the refusal of it."""

from __future__ import annotations

from dataclasses import dataclass

from rejoule.traces import RejouleError
from rejoule.traces.run import Configuration


class KnobRefused(RejouleError):  # noqa: N818
    """A configuration's knobs cannot be had; those of others may."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a configuration asks of every GPU; ``None`` leaves it as it was found."""

    power_cap_w: float | None = None
    sm_clock_mhz: float | None = None

    @classmethod
    def of(cls, configuration: Configuration) -> Setting:
        return cls(configuration.power_cap_w, configuration.sm_clock_mhz)

    @property
    def asks(self) -> bool:
        return self != Setting()

"""The one meter interface: a counter of joules, read before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rejoule.traces.run import Energy


class Meter(Protocol):
    """Counts the joules of one component."""

    @property
    def component(self) -> str:
        """``gpu``, ``cpu`` or ``dram``."""
        ...

    @property
    def source(self) -> str:
        """``nvml-counter``, ``model:<profile>`` …"""
        ...

    async def read_j(self) -> float | None:
        """Joules so far, from an origin of the meter's own; ``None`` when it gives no answer."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Counts:
    """What each meter read at one time."""

    values_j: tuple[float | None, ...]


async def read(meters: Sequence[Meter]) -> Counts:
    """All meters, one after another."""
    return Counts(tuple([await meter.read_j() for meter in meters]))


def energy_between(meters: Sequence[Meter], before: Counts, after: Counts) -> Energy:
    """Joules by component between two readings; ``None`` without a meter, or if its counter went back."""
    joules: dict[str, float] = {}
    source: dict[str, str] = {}
    for meter, first, last in zip(meters, before.values_j, after.values_j, strict=True):
        if first is not None and last is not None and last >= first:
            joules[meter.component] = last - first
            source[meter.component] = meter.source
    return Energy(gpu_j=joules.get("gpu"), cpu_j=joules.get("cpu"), dram_j=joules.get("dram"), source=source)

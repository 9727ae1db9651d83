"""What runs of a GPU say of its power over the clock: measured where they were capped or locked, else the base's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from rejoule.replay.calibration.capping import cap_of
from rejoule.replay.calibration.observations import PowerReading
from rejoule.replay.sim.profile import ClockCurve, Profile
from rejoule.traces.run import Run

NEAR: Final = 1.03
"""Readings at clocks up to so much above the least are at the least."""


def found_curve(
    base: Profile, fitted: Profile, runs: Sequence[Run], readings: Sequence[PowerReading]
) -> ClockCurve | None:
    """How the clock curve of ``fitted`` is known, given the runs that it was fitted to; ``None`` if nothing is told."""
    knobs = [run.configuration for run in runs]
    locks = sorted({c.sm_clock_mhz for c in knobs if c.sm_clock_mhz is not None})
    caps = sorted({cap for run in runs if run.configuration.power_cap_w and (cap := cap_of(run)) is not None})
    if not (locks or caps):
        return _own(base, fitted)
    least_mhz = min(reading.clock_mhz for reading in readings)
    # Under a cap above what was drawn at the least clock, no step that was seen falls below it.
    there_w = [reading.power_w for reading in readings if reading.clock_mhz <= NEAR * least_mhz]
    from_w = min(fitted.gpu.max_power_limit_w, max(there_w), *caps)
    told = [*(f"{cap:g} W" for cap in caps), *(f"{lock:g} MHz" for lock in locks)]
    return ClockCurve(
        basis="measured",
        source=f"rejoule calibrate: runs at {', '.join(told)}",
        known_from_w=max(from_w, fitted.gpu.min_power_limit_w),
        known_from_mhz=max(least_mhz, fitted.gpu.min_clock_mhz),
        own_card=True,
    )


def _own(base: Profile, fitted: Profile) -> ClockCurve | None:
    """The base's curve on a card of its own: what other curves would draw scales with what this one does."""
    curve = base.clock_curve
    if curve is None:
        return None
    low, high = (_scaled(side, base, fitted) for side in (curve.low, curve.high))
    return replace(curve, low=low, high=high, own_card=True)


def _scaled(side: dict[str, float], base: Profile, fitted: Profile) -> dict[str, float]:
    def ratio(name: str) -> float:
        before, now = getattr(base.power, name), getattr(fitted.power, name)
        return now / before if name.endswith("_w") and before else 1.0

    return {name: value * ratio(name) for name, value in side.items()}

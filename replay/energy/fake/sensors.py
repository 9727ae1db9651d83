"""What a stand-in GPU's sensors say of its true power: late, in steps, and from part of the time only.

The same formulas hold for one time and for arrays of times. Periods and windows: Yang et al., "Part-time Power
Measurements" (arXiv 2312.02741), and measurements on an H200.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final, Protocol

import numpy as np

from rejoule.replay.energy.fake.gpu import FakeGpu
from rejoule.replay.energy.fake.scenario import SECOND_NS

SALT: Final = ("counter", "power")


class Curve(Protocol):
    """True joules by time, from any origin."""

    def energy_j(self, ns: Any) -> Any: ...


class Sensors:
    """Of one GPU; times are nanoseconds of its clock, and ``resets_ns`` when its energy counter began anew."""

    def __init__(self, spec: FakeGpu, index: int, resets_ns: tuple[int, ...] = ()) -> None:
        self._spec = spec
        self._resets_ns = resets_ns
        self._phase = {salt: Random(f"{spec.seed}:{index}:{salt}").random() for salt in SALT}

    def energy_mj(self, curve: Curve, ns: Any) -> Any:
        """The energy counter."""
        tick_ns = self._tick("counter", self._spec.counter_period_s, ns)
        energy_j = curve.energy_j(tick_ns)
        count = self._spec.counter_start_mj + energy_j * 1000 * self._spec.gain // 1
        for reset_ns in self._resets_ns:
            anew = np.maximum(0, (energy_j - curve.energy_j(reset_ns)) * 1000 * self._spec.gain // 1)
            count = np.where(np.asarray(ns) >= reset_ns, anew, count)
        return count

    def instant_mw(self, curve: Curve, ns: Any) -> Any:
        """Field 186: the mean of a short window that ended when the sensor last looked."""
        end_ns = self._tick("power", self._spec.power_period_s, ns)
        return self._mean_mw(curve, end_ns, self._spec.instant_window_s)

    def average_mw(self, curve: Curve, ns: Any) -> Any:
        """Field 185 and ``nvmlDeviceGetPowerUsage``: the mean of a second."""
        end_ns = self._tick("power", self._spec.power_period_s, ns) - round(self._spec.average_late_s * SECOND_NS)
        return self._mean_mw(curve, end_ns, self._spec.average_window_s)

    def hbm_mw(self, curve: Curve, ns: Any) -> Any:
        """Field 185 of the memory; 0 without such a sensor."""
        return self.average_mw(curve, ns) * self._spec.hbm_share // 1

    def _mean_mw(self, curve: Curve, end_ns: Any, window_s: float) -> Any:
        joules = curve.energy_j(end_ns) - curve.energy_j(end_ns - round(window_s * SECOND_NS))
        return (joules * self._spec.gain * 1000 / window_s + 0.5) // 1

    def _tick(self, sensor: str, period_s: float, ns: Any) -> Any:
        """When the sensor last changed."""
        period_ns = round(period_s * SECOND_NS)
        phase_ns = round(self._phase[sensor] * period_ns)
        return (ns - phase_ns) // period_ns * period_ns + phase_ns

"""How much power a step draws, and what a power cap or a clock lock makes of it.

    P(f) = idle + memory u_m + (awake + compute u_c + traffic u_m) (f/f0) v(f)^2
    v(f) = 1 below the knee, 1 + slope (f - f_knee)/f0 above

with u_c and u_m the shares of the step in which compute and memory are busy. The knee follows fits of a public power
sweep of vLLM: power is linear in the clock and then steep, where a cube law errs by up to 17 %.

A cap takes the highest clock whose power is at most the cap. While the power at the full clock is below the cap,
nothing changes. A cap below the power at the lowest clock cannot be kept: the step runs at that clock, above the cap.
"""

from __future__ import annotations

from typing import NamedTuple

from rejoule.replay.sim.latency import Demand, LatencyModel, StepTime
from rejoule.replay.sim.profile import Profile
from rejoule.traces.errors import RejouleError


class Operation(NamedTuple):
    """At which clock a step runs, for how long, and with what power."""

    clock_mhz: int
    step_s: float
    power_w: float
    cap_bound: bool
    attainable: bool


class PowerModel:
    """The formulas above with one profile's constants, under one cap and one clock lock."""

    def __init__(
        self,
        profile: Profile,
        latency: LatencyModel,
        power_cap_w: float | None = None,
        sm_clock_mhz: int | None = None,
    ) -> None:
        gpu = profile.gpu
        self._curve = profile.power
        self._latency = latency
        self.cap_w = gpu.default_power_limit_w if power_cap_w is None else power_cap_w
        if not gpu.min_power_limit_w <= self.cap_w <= gpu.max_power_limit_w:
            raise RejouleError(
                f"a power cap of {self.cap_w:g} W is outside the range of the {gpu.name}",
                f"take {gpu.min_power_limit_w:g} to {gpu.max_power_limit_w:g} W",
            )
        highest = gpu.max_clock_mhz if sm_clock_mhz is None else sm_clock_mhz
        if not gpu.min_clock_mhz <= highest <= gpu.max_clock_mhz:
            raise RejouleError(
                f"an SM clock of {highest} MHz is outside the range of the {gpu.name}",
                f"take {gpu.min_clock_mhz} to {gpu.max_clock_mhz} MHz",
            )
        self.clocks_mhz = range(gpu.min_clock_mhz, highest + 1, gpu.clock_step_mhz)
        self._scale = {clock: self._dynamic(clock / gpu.max_clock_mhz) for clock in self.clocks_mhz}
        self.idle_clock_mhz = self.clocks_mhz[-1]
        self.idle_w = self._curve.idle_w + self._curve.awake_w * self._scale[self.idle_clock_mhz]

    def operate(self, demand: Demand) -> Operation:
        """Run a step: at the highest clock that the cap allows."""
        clocks = self.clocks_mhz
        clock = clocks[-1]
        time = self._latency.time(demand, clock)
        power = self._power(time, clock)
        if power <= self.cap_w:
            return Operation(clock, time.step_s, power, False, True)
        low, high = 0, len(clocks) - 1
        while low < high:
            middle = (low + high) // 2
            clock = clocks[middle + 1]
            if self._power(self._latency.time(demand, clock), clock) <= self.cap_w:
                low = middle + 1
            else:
                high = middle
        clock = clocks[low]
        time = self._latency.time(demand, clock)
        power = self._power(time, clock)
        return Operation(clock, time.step_s, power, True, power <= self.cap_w)

    def _power(self, time: StepTime, clock: int) -> float:
        curve = self._curve
        compute = min(1.0, time.compute_s / time.step_s)
        memory = min(1.0, time.memory_s / time.step_s)
        dynamic = curve.awake_w + curve.compute_w * compute + curve.traffic_w * memory
        return curve.idle_w + curve.memory_w * memory + dynamic * self._scale[clock]

    def _dynamic(self, share: float) -> float:
        """(f/f0) v(f)^2 at a share of the greatest clock."""
        curve = self._curve
        voltage = 1 + curve.voltage_slope * max(0.0, share - curve.knee)
        return share * voltage**2

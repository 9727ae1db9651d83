"""How much power a step draws, and what a power cap or a clock lock makes of it.

    P(f) = idle + memory u_m + (awake + compute u_c + traffic u_m + cache u_k + link u_l) (f/f0) v(f)^2
    v(f) = 1 + slope (f - f_knee)/f0 above the knee, 1 - sag (f_knee - f)/f0 below it, and no less than at the floor

with u_c and u_m the shares of the step in which compute and memory are busy, u_k that of reading keys and values, and
u_l that of all-reduces, in which a GPU that waits for another does not rest but asks again and again.
v is the voltage as a multiple of that at the knee, and the floor the clock below which it falls no further. Above
the knee it rises steeply; how fast it falls below, ``benchmarks.voltage_curve`` fits to public measurements. Where it
hardly falls (a sag of 0), power is linear in the clock and then steep, and a cube law errs by up to 17 %.

A cap takes the highest clock whose power is at most the cap. While the power at the full clock is below the cap,
nothing changes. A cap below the power at the lowest clock cannot be kept: the step runs at that clock, above the cap.

The GPU's controller judges a mean over time, not an instant. With a window w, dm/dt = (P - m)/w, and a step runs at the
highest clock that the peak allows (a multiple of the cap, or no limit) until m reaches the cap, which takes
w ln((P - m)/(P - cap)) seconds; from there on it runs at the clock that the cap allows. So short prefills between
decodes are slowed less: the H200s of benchmarks/h200 draw 750 to 800 W in the first 100 to 200 ms of a burst of
prefills, and later 700 W. A window of 0 caps each step by itself.

Caps, clocks and the formula are of one GPU; the power of an operation is that of all tensor-parallel GPUs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rejoule.replay.sim.latency import Array, Demand, LatencyModel, StepTime
from rejoule.replay.sim.profile import PowerCurve, Profile
from rejoule.traces.errors import RejouleError


class Operation(NamedTuple):
    """At which clock a step runs, for how long, and with what power; means over the step."""

    clock_mhz: float
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
        self.gpus = profile.tensor_parallel
        self._max_clock_mhz = gpu.max_clock_mhz
        self.idle_clock_mhz = self.clocks_mhz[-1]
        resting_w = self._curve.idle_w + self._curve.awake_w * self._scale[self.idle_clock_mhz]
        self.idle_w = self.gpus * resting_w
        self._peak_w = self.cap_w * (self._curve.cap_peak or math.inf)
        self._window_s = self._curve.cap_window_s
        self._mean_w = self._held_w = resting_w
        self._since_s = 0.0

    def operate(self, demand: Demand) -> Operation:
        """A step in a steady state: at the highest clock that the cap allows."""
        return self._within(demand, self.cap_w)

    def burst(self, demand: Demand) -> Operation:
        """A step while the mean is below the cap: at the highest clock at which it draws no more than the peak."""
        return self._within(demand, self._peak_w)

    def run(self, demand: Demand, at_s: float) -> Operation:
        """The step that begins at ``at_s``, given what ran before: above the cap while the mean is below it."""
        steady = self.operate(demand)
        mean_w = self._mean(at_s)
        if not self._overdraws(steady, mean_w):
            self.hold(steady.power_w, at_s)
            return steady
        free = self.burst(demand)
        free_w, cap_w = free.power_w / self.gpus, self.cap_w
        if free.clock_mhz == steady.clock_mhz:
            self.hold(steady.power_w, at_s)
            return steady
        above_s = self._window_s * math.log((free_w - mean_w) / (free_w - cap_w))
        if above_s >= free.step_s:
            self.hold(free.power_w, at_s)
            return free._replace(attainable=True)
        below_s = (1 - above_s / free.step_s) * steady.step_s
        step_s = above_s + below_s
        share = above_s / step_s
        self._mean_w, self._held_w, self._since_s = cap_w, steady.power_w / self.gpus, at_s + above_s
        return Operation(
            share * free.clock_mhz + (1 - share) * steady.clock_mhz,
            step_s,
            share * free.power_w + (1 - share) * steady.power_w,
            True,
            steady.attainable,
        )

    def hold(self, power_w: float, at_s: float) -> None:
        """From ``at_s`` on all GPUs together draw ``power_w``, until told otherwise."""
        held_w = power_w / self.gpus
        if held_w != self._held_w:
            self._mean_w = self._mean(at_s)
            self._held_w, self._since_s = held_w, at_s

    def settling(self, demand: Demand, at_s: float) -> bool:
        """Whether a step that begins at ``at_s`` would run above the cap, so that the next one may differ."""
        return self._window_s > 0 and self._overdraws(self.operate(demand), self._mean(at_s))

    @property
    def greatest_clock_mhz(self) -> int:
        """Of the GPU, whatever the lock."""
        return self._max_clock_mhz

    def idle_at(self, clock_mhz: float) -> float:
        """Watts of all GPUs that rest at a clock."""
        return self.gpus * (self._curve.idle_w + self._curve.awake_w * self._dynamic(clock_mhz / self._max_clock_mhz))

    def joules(self, demands: Array, clock_mhz: Array | float) -> Array:
        """Of one step for each row of ``demands`` (S × the fields of a `Demand`), at any clock and whatever the cap."""
        time = self._latency.times(demands, clock_mhz)
        curve, step_s = self._curve, time.step_s
        parts = (time.compute_s, time.memory_s, time.cache_s, time.link_s)
        compute, memory, cache, link = (np.minimum(1.0, part / step_s) for part in parts)
        share = np.asarray(clock_mhz) / self._max_clock_mhz
        scale = share * voltage(curve, share) ** 2
        dynamic = curve.awake_w + curve.compute_w * compute + curve.traffic_w * memory + curve.cache_w * cache
        dynamic += curve.link_w * link
        watts: Array = curve.idle_w + curve.memory_w * memory + dynamic * scale
        return self.gpus * watts * step_s

    def power_at(self, demand: Demand, clock_mhz: float) -> float:
        """Watts of all GPUs in a step at any clock, whatever the cap."""
        return self.power_of(self._latency.time(demand, clock_mhz), clock_mhz)

    def power_of(self, time: StepTime, clock_mhz: float) -> float:
        """Watts of all GPUs over a stretch of ``time.step_s`` in which they compute and load for as long as it says."""
        return self.gpus * self._draw(time, self._dynamic(clock_mhz / self._max_clock_mhz))

    def _overdraws(self, steady: Operation, mean_w: float) -> bool:
        return self._window_s > 0 and steady.cap_bound and mean_w < min(self.cap_w, steady.power_w / self.gpus)

    def _mean(self, at_s: float) -> float:
        """What the controller sees of one GPU."""
        if not self._window_s:
            return self._held_w
        return self._held_w + (self._mean_w - self._held_w) * math.exp((self._since_s - at_s) / self._window_s)

    def _within(self, demand: Demand, limit_w: float) -> Operation:
        clocks = self.clocks_mhz
        free = self._at(demand, clocks[-1], False)
        if free.power_w <= limit_w * self.gpus:
            return free
        low, high = 0, len(clocks) - 1
        while low < high:
            middle = (low + high) // 2
            clock = clocks[middle + 1]
            if self._power(self._latency.time(demand, clock), clock) <= limit_w:
                low = middle + 1
            else:
                high = middle
        return self._at(demand, clocks[low], True)

    def _at(self, demand: Demand, clock: int, cap_bound: bool) -> Operation:
        time = self._latency.time(demand, clock)
        power = self._power(time, clock)
        return Operation(clock, time.step_s, self.gpus * power, cap_bound, power <= self.cap_w)

    def _power(self, time: StepTime, clock: int) -> float:
        return self._draw(time, self._scale[clock])

    def _draw(self, time: StepTime, scale: float) -> float:
        """One GPU's watts at a ``scale`` of (f/f0) v(f)^2."""
        curve = self._curve
        compute = min(1.0, time.compute_s / time.step_s)
        memory = min(1.0, time.memory_s / time.step_s)
        dynamic = curve.awake_w + curve.compute_w * compute + curve.traffic_w * memory
        if curve.cache_w:
            dynamic += curve.cache_w * min(1.0, time.cache_s / time.step_s)
        if curve.link_w:
            dynamic += curve.link_w * min(1.0, time.link_s / time.step_s)
        return curve.idle_w + curve.memory_w * memory + dynamic * scale

    def _dynamic(self, share: float) -> float:
        """(f/f0) v(f)^2 at a share of the greatest clock."""
        return share * float(voltage(self._curve, share)) ** 2


def voltage(curve: PowerCurve, share: Array | float) -> Array:
    """As a multiple of that at the knee, by the share of the greatest clock."""
    above = np.maximum(0.0, np.asarray(share) - curve.knee)
    below = np.maximum(0.0, curve.knee - np.maximum(share, curve.floor))
    risen: Array = 1 + curve.voltage_slope * above - curve.voltage_sag * below
    return risen

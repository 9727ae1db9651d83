"""Stretches of equal decode steps, whose time and energy are a closed form.

Contexts grow by a token a step, so a step's time and energy grow in a straight line between those of the first and the
last, and k steps cost ``k t + g k (k - 1) / 2`` wherever the stretch is interrupted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from rejoule.replay.sim.power import Operation
from rejoule.replay.sim.records import StepRecord


class Stretch(NamedTuple):
    """The line along which equal decode steps cost time and energy, from one tick to another.

    ``version`` is the scheduler's: that of the set of requests which decode.
    """

    version: int
    start_s: float
    first_tick: int
    last_tick: int
    step_s: float
    growth_s: float
    step_j: float
    growth_j: float
    sm_clock_mhz: float
    cap_bound: bool
    attainable: bool

    def end_s(self, steps: int) -> float:
        """When that many steps are over."""
        return self.start_s + steps * self.step_s + self.growth_s * steps * (steps - 1) / 2

    def energy_j(self, steps: int) -> float:
        """What that many steps use."""
        return steps * self.step_j + self.growth_j * steps * (steps - 1) / 2

    def record(self, start_s: float, over: int, last: int, idle_w: float) -> StepRecord:
        """Of the steps after the first ``over`` up to ``last``, from ``start_s`` on; joules are those above rest."""
        end_s = self.end_s(last)
        energy_j = self.energy_j(last) - self.energy_j(over)
        return StepRecord(
            start_s=start_s,
            end_s=end_s,
            steps=last - over,
            energy_j=energy_j - idle_w * (end_s - self.end_s(over)),
            sm_clock_mhz=self.sm_clock_mhz,
            cap_bound=self.cap_bound,
            attainable=self.attainable,
            step_s=self.step_s + self.growth_s * over,
            growth_s=self.growth_s,
        )

    def steps_until(self, at_s: float) -> int:
        """The smallest number of steps after which it is ``at_s`` or later."""
        half = self.growth_s / 2
        linear = self.step_s - half
        span = at_s - self.start_s
        if half > 0:
            guess = (-linear + math.sqrt(max(0.0, linear * linear + 4 * half * span))) / (2 * half)
        else:
            guess = span / self.step_s
        steps = max(0, math.ceil(guess))
        while steps and self.end_s(steps - 1) >= at_s:
            steps -= 1
        while self.end_s(steps) < at_s:
            steps += 1
        return steps


def interpolated(version: int, start_s: float, tick: int, steps: int, first: Operation, last: Operation) -> Stretch:
    """The stretch of ``steps`` steps from ``tick`` on, of which the ``first`` and the ``last`` are known."""
    first_j, last_j = first.step_s * first.power_w, last.step_s * last.power_w
    return Stretch(
        version,
        start_s,
        tick,
        tick + steps,
        first.step_s,
        max(0.0, last.step_s - first.step_s) / max(1, steps - 1),
        first_j,
        (last_j - first_j) / max(1, steps - 1),
        (first.clock_mhz + last.clock_mhz) / 2,
        first.cap_bound or last.cap_bound,
        first.attainable and last.attainable,
    )

"""What a stand-in GPU would draw over time without a limit: functions of time, constant between changes."""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

SECOND_NS: Final = 1_000_000_000


class Constant(msgspec.Struct, tag=True, frozen=True):
    """The same power for ever."""

    watts: float

    def at(self, ns: int) -> tuple[float, int | None]:
        """Watts ``ns`` after the start, and until when they hold; ``None`` is for ever."""
        return self.watts, None


class Square(msgspec.Struct, tag=True, frozen=True):
    """``high_w`` for ``duty`` of each period, then ``low_w``."""

    low_w: float
    high_w: float
    period_s: float = 1.0
    duty: float = 0.5

    def at(self, ns: int) -> tuple[float, int | None]:
        period_ns = round(self.period_s * SECOND_NS)
        begun_ns = ns // period_ns * period_ns
        falls_ns = begun_ns + round(period_ns * self.duty)
        return (self.high_w, falls_ns) if ns < falls_ns else (self.low_w, begun_ns + period_ns)


class Steps(msgspec.Struct, tag=True, frozen=True):
    """Each power for its seconds, ``((seconds, watts), …)``; the last holds on."""

    steps: tuple[tuple[float, float], ...]

    def at(self, ns: int) -> tuple[float, int | None]:
        end_ns = 0
        for seconds, watts in self.steps[:-1]:
            end_ns += round(seconds * SECOND_NS)
            if ns < end_ns:
                return watts, end_ns
        return self.steps[-1][1], None


class Ramp(msgspec.Struct, tag=True, frozen=True):
    """From one power to another in a straight line, as ``step_s`` resolves it; the last holds on."""

    from_w: float
    to_w: float
    seconds: float
    step_s: float = 0.01

    def at(self, ns: int) -> tuple[float, int | None]:
        step_ns = round(self.step_s * SECOND_NS)
        share = (ns // step_ns + 0.5) * step_ns / (self.seconds * SECOND_NS)
        if share >= 1:
            return self.to_w, None
        return self.from_w + (self.to_w - self.from_w) * share, (ns // step_ns + 1) * step_ns


class Levels(msgspec.Struct, tag=True, frozen=True):
    """A power drawn anew every ``hold_s``, evenly between two; ``seed`` fixes all of them."""

    low_w: float
    high_w: float
    hold_s: float = 0.25
    seed: int = 0

    def at(self, ns: int) -> tuple[float, int | None]:
        hold_ns = round(self.hold_s * SECOND_NS)
        index = ns // hold_ns
        return Random(f"{self.seed}:{index}").uniform(self.low_w, self.high_w), (index + 1) * hold_ns


Scenario = Constant | Square | Steps | Ramp | Levels

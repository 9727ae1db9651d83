"""The loads that the judge sets: what is served, by what engine, and how it is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.judge.engine import Kind, Stage
from benchmarks.judge.physics import EXPERTS, Card, Physics
from benchmarks.judge.sensors import Company, Sensor


@dataclass(frozen=True, slots=True)
class Load:
    name: str
    stages: tuple[tuple[Stage, ...], ...]
    """The shapes of workflows."""
    rate: float
    """Workflows a second."""
    length_s: float = 25.0
    """Arrivals end then."""
    physics: Physics = field(default_factory=Physics)
    sensor: Sensor = field(default_factory=Sensor)
    company: Company = field(default_factory=Company)
    slots: int = 256
    unrecorded_cache: bool = False
    """Steps are recorded without the tokens that were found in the cache."""


def alone(*kinds: Kind) -> tuple[tuple[Stage, ...], ...]:
    """Workflows of one call each."""
    return tuple((Stage((kind,)),) for kind in kinds)


CHAT = Kind("chat", 300, 200, 0.5)
SUMMARY = Kind("summary", 4000, 60)
AGENT = Kind("agent", 8000, 150, 0.9)
MIX: Final = alone(CHAT, SUMMARY, AGENT)
CODING: Final = (
    (
        Stage((Kind("plan", 900, 120, 0.6),)),
        Stage((Kind("write", 1500, 260, 0.4), Kind("test", 1200, 140, 0.5))),
        Stage((Kind("fix", 2600, 90, 0.8),), tool_s=0.9),
    ),
)
LOOKUPS: Final = ((Stage((Kind("ask", 600, 60),)), Stage((Kind("read", 3500, 80, 0.2),), tool_s=2.5)),)
CACHED: Final = alone(Kind("route", 6000, 8, 0.995), Kind("reply", 900, 180, 0.3))
ALL_CACHED: Final = alone(Kind("glance", 9000, 30, 0.998), Kind("classify", 3000, 4, 0.99))
TOGETHER: Final = ((Stage((Kind("short", 400, 160, 0.0, alike=True), Kind("long", 9000, 160, 0.98, alike=True))),),)
TOGETHER_IN_COMPANY: Final = (*TOGETHER, *alone(CHAT))

DENSE, MOE = Physics(), Physics(model=EXPERTS)
THROTTLED, DRIFTING = Physics(throttles=True), Physics(drift_w=8.0)
HARSH: Final = Physics(Card(awake_w=205.0), model=EXPERTS, throttles=True, drift_w=5.0)
LATE, LATEST, PART = Sensor(lag_s=0.4), Sensor(lag_s=1.0), Sensor(window_s=0.025)

LOADS: Final[Sequence[Load]] = (
    Load("mix", MIX, 3.0),
    Load("mix, batch 1.3", MIX, 0.8),
    Load("mix, large batch", MIX, 12.0, 20.0),
    Load("mix, 6 s", MIX, 3.0, 5.0),
    Load("mix, batch 1.3, 6 s", MIX, 0.8, 5.0),
    Load("mix, 60 s", MIX, 1.5, 60.0),
    Load("agents with tools", CODING, 0.8),
    Load("tools, mostly idle", LOOKUPS, 0.35),
    Load("tools, 6 s", LOOKUPS, 0.9, 4.0),
    Load("nearly all cached", CACHED, 4.0),
    Load("all cached", ALL_CACHED, 6.0),
    Load("two nodes together", TOGETHER, 0.6),
    Load("two together, and chat", TOGETHER_IN_COMPANY, 1.6),
    Load("experts", MIX, 3.0, physics=MOE),
    Load("experts, batch 1.3", MIX, 1.2, physics=MOE),
    Load("experts, large batch", MIX, 16.0, 20.0, physics=MOE),
    Load("clock changes", MIX, 7.0, physics=THROTTLED),
    Load("drift", MIX, 2.5, physics=DRIFTING),
    Load("late by 0.4 s", MIX, 2.0, sensor=LATE),
    Load("late by 1 s", MIX, 2.0, sensor=LATEST),
    Load("part-time sensor", MIX, 2.0, sensor=PART),
    Load("second GPU", MIX, 2.0, company=Company(second_gpu_w=112.0)),
    Load("second GPU, told together", MIX, 2.0, company=Company(second_gpu_w=112.0, told_together=True)),
    Load("foreign 150 W", MIX, 2.0, company=Company(constant_w=150.0)),
    Load("foreign bursts of 60 W", MIX, 2.0, company=Company(burst_w=60.0)),
    Load("cached tokens not recorded", CACHED, 4.0, unrecorded_cache=True),
    Load("all at once", (*CODING, *CACHED), 2.0, physics=HARSH, sensor=Sensor(lag_s=0.2, window_s=0.025)),
)

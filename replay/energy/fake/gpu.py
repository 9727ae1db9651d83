"""What a stand-in GPU is like: its limits, its sensors, its heat, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from rejoule.replay.energy.fake.scenario import Scenario


@dataclass(frozen=True, slots=True)
class FakeGpu:
    """By default one like an H200: periods and windows of its sensors as measured on that card."""

    scenario: Scenario | None = None
    """What it would draw without a limit; its idle power if not given. The first load replaces it."""
    uuid: str | None = None
    """One is made up from its index if not given."""
    name: str = "Fake H200"
    idle_w: float = 80.0

    min_w: float = 200.0
    max_w: float = 700.0
    default_w: float = 700.0
    requested_w: float | None = None
    """The limit found at the start; the default if not given."""
    node_limit_w: float | None = None
    """What the node allows: the limit in force is never above it, whatever is requested."""
    permission: bool = True
    """Whether limits and clocks may be set."""
    ignores_limit: bool = False
    """Requests for a limit are accepted, and do not take effect."""

    min_sm_mhz: int = 345
    max_sm_mhz: int = 1980
    step_mhz: int = 15
    memory_mhz: int = 3201

    counter_start_mj: int = 5_000_000
    counter_period_s: float = 0.1
    counter_read_s: float = 0.0
    """How long each read of the counter takes; 4 ms on an H200."""
    power_period_s: float = 0.1003
    """Instant and average power change together."""
    instant_window_s: float = 0.025
    average_window_s: float = 1.0
    average_late_s: float = 0.007
    """So long ago the average's window ended when it changes."""
    gain: float = 1.0
    """What the sensors say for each true watt."""
    hbm_share: float = 0.2
    """Of the power, what the memory draws; 0 where there is no such sensor."""
    seed: int = 0
    """Fixes when in their periods the sensors change."""

    ambient_c: float = 30.0
    kelvin_per_w: float = 0.06
    heat_lag_s: float = 20.0
    """Time constant of the temperature."""
    start_c: float | None = None
    """Temperature at the start; that of its idle power if not given."""
    throttle_c: float = 87.0
    """Here heat holds the power down to what keeps the temperature."""

    mig: bool = False
    persistence: bool | None = True
    processes: tuple[int, ...] = ()
    memory_bytes: int = 150_754_820_096
    unsupported: tuple[int | str, ...] = ()
    """Numbers of fields and names of NVML functions that this GPU does not have."""

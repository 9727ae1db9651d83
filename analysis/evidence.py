"""What a run says of its energy besides the total: parts, cap, clock, and why it should not be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum

from rejoule.traces.run import Run, Step


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of one run, or means over several; ``None`` is what could not be measured."""

    uncertainty_j: float | None = None
    """Half-width of the 95 % interval of the GPUs' joules, from ticks, sampling and window."""
    net_j: float | None = None
    """GPU joules less what the loaded, idle GPUs would have drawn over the makespan."""
    core_j: float | None = None
    """GPU joules less those of its memory."""
    hbm_j: float | None = None
    cpu_j: float | None = None
    dram_j: float | None = None
    in_force_w: float | None = None
    bound_fraction: float | None = None
    sm_clock_mhz: float | None = None
    """Mean over the busy time."""
    rejected: tuple[str, ...] = ()

    @property
    def components(self) -> dict[str, float | None]:
        return {"GPU core": self.core_j, "GPU memory (HBM)": self.hbm_j, "CPU": self.cpu_j, "DRAM": self.dram_j}


def evidence(run: Run) -> Evidence:
    energy, around = run.energy, run.conditions
    loaded_w = None if around is None else around.loaded_w
    gpu_j, hbm_j = energy.gpu_j, energy.hbm_j
    clock = None if around is None else around.sm_clock_mhz
    return Evidence(
        uncertainty_j=energy.uncertainty_j.get("gpu"),
        net_j=None if gpu_j is None or loaded_w is None else gpu_j - loaded_w * run.makespan_s,
        core_j=None if gpu_j is None or hbm_j is None else gpu_j - hbm_j,
        hbm_j=hbm_j,
        cpu_j=energy.cpu_j,
        dram_j=energy.dram_j,
        in_force_w=run.power_cap.in_force_w,
        bound_fraction=run.power_cap.bound_fraction,
        sm_clock_mhz=_busy_clock(run.steps or ()) if clock is None else clock,
        rejected=() if around is None else around.rejected,
    )


def pooled(found: Sequence[Evidence]) -> Evidence:
    """Means over the trials in which a figure is known, and all reasons against any of them."""

    def mean(value: Callable[[Evidence], float | None]) -> float | None:
        known = [v for v in map(value, found) if v is not None]
        return fsum(known) / len(known) if known else None

    return Evidence(
        mean(lambda e: e.uncertainty_j),
        mean(lambda e: e.net_j),
        mean(lambda e: e.core_j),
        mean(lambda e: e.hbm_j),
        mean(lambda e: e.cpu_j),
        mean(lambda e: e.dram_j),
        mean(lambda e: e.in_force_w),
        mean(lambda e: e.bound_fraction),
        mean(lambda e: e.sm_clock_mhz),
        tuple(dict.fromkeys(reason for e in found for reason in e.rejected)),
    )


def _busy_clock(steps: Sequence[Step]) -> float | None:
    known = [(s.sm_clock_mhz, s.end_s - s.start_s) for s in steps if s.sm_clock_mhz is not None and not s.idle]
    seconds = fsum(duration for _, duration in known)
    return fsum(clock * duration for clock, duration in known) / seconds if seconds > 0.0 else None

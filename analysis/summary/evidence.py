"""What a run says of its energy besides the total: parts, cap, clock, conditions, and why it should not be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any, Final

from rejoule.traces.run import Run, Step
from rejoule.traces.steady import Steady, steady

APART_C: Final = 5.0
"""Start temperatures further apart than this are not alike: a chip's leakage grows with its temperature."""


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
    bare_w: float | None = None
    """Idle power before the server was started, with its model loaded, and after the run."""
    loaded_w: float | None = None
    after_w: float | None = None
    start_temperature_c: float | None = None
    end_temperature_c: float | None = None
    warm_ups: int | None = None
    """Passes made before a run; of several, before the first on its server."""
    sampler_share: float | None = None
    """What the sampler took of one core."""
    steady: Steady | None = None
    """With a full batch; of several runs, all such stretches together."""
    rejected: tuple[str, ...] = ()

    @property
    def components(self) -> dict[str, float | None]:
        return {"GPU core": self.core_j, "GPU memory (HBM)": self.hbm_j, "CPU": self.cpu_j, "DRAM": self.dram_j}


def evidence(run: Run) -> Evidence:
    energy, around = run.energy, run.conditions
    gpu_j, hbm_j = energy.gpu_j, energy.hbm_j
    found = Evidence(
        uncertainty_j=energy.uncertainty_j.get("gpu"),
        core_j=None if gpu_j is None or hbm_j is None else gpu_j - hbm_j,
        hbm_j=hbm_j,
        cpu_j=energy.cpu_j,
        dram_j=energy.dram_j,
        in_force_w=run.power_cap.in_force_w,
        bound_fraction=run.power_cap.bound_fraction,
        sm_clock_mhz=_busy_clock(run.steps or ()),
        steady=steady(run),
    )
    if around is None:
        return found
    return replace(
        found,
        net_j=None if gpu_j is None or around.loaded_w is None else gpu_j - around.loaded_w * run.makespan_s,
        sm_clock_mhz=found.sm_clock_mhz if around.sm_clock_mhz is None else around.sm_clock_mhz,
        bare_w=around.bare_w,
        loaded_w=around.loaded_w,
        after_w=around.after_w,
        start_temperature_c=around.start_temperature_c,
        end_temperature_c=around.end_temperature_c,
        warm_ups=around.warm_ups,
        sampler_share=around.sampler.get("cpu_share"),
        rejected=around.rejected,
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
        mean(lambda e: e.bare_w),
        mean(lambda e: e.loaded_w),
        mean(lambda e: e.after_w),
        mean(lambda e: e.start_temperature_c),
        mean(lambda e: e.end_temperature_c),
        max((e.warm_ups for e in found if e.warm_ups is not None), default=None),
        mean(lambda e: e.sampler_share),
        _together([e.steady for e in found]),
        tuple(dict.fromkeys(reason for e in found for reason in e.rejected)),
    )


def as_json(found: Evidence, body: dict[str, Any]) -> dict[str, Any]:
    """The figures of ``found`` in place of the stretches that they come from; ``body`` is its plain form."""
    full = found.steady
    if full is None:
        return body
    figures = ("batch", "duration_s", "output_tokens", "energy_j", "tokens_per_s", "power_w", "j_per_token")
    return body | {"steady": {name: getattr(full, name) for name in figures}}


def start_temperatures_c(runs: Iterable[Run]) -> tuple[float, float] | None:
    """The lowest and the highest start of runs that did not start alike; ``None`` where they did, or none is known."""
    known = [r.conditions.start_temperature_c for r in runs if r.conditions is not None]
    degrees = [c for c in known if c is not None]
    if not degrees or max(degrees) - min(degrees) <= APART_C:
        return None
    return min(degrees), max(degrees)


def _together(found: Sequence[Steady | None]) -> Steady | None:
    """Stretches of equal batches; ``None`` unless every trial had one."""
    known = [s for s in found if s is not None]
    if not known or len(known) < len(found) or len({s.batch for s in known}) > 1:
        return None
    joules = [s.energy_j for s in known if s.energy_j is not None]
    return Steady(
        known[0].batch,
        tuple(stretch for s in known for stretch in s.stretches),
        fsum(s.output_tokens for s in known),
        fsum(joules) if len(joules) == len(known) else None,
    )


def _busy_clock(steps: Sequence[Step]) -> float | None:
    known = [(s.sm_clock_mhz, s.end_s - s.start_s) for s in steps if s.sm_clock_mhz is not None and not s.idle]
    seconds = fsum(duration for _, duration in known)
    return fsum(clock * duration for clock, duration in known) / seconds if seconds > 0.0 else None

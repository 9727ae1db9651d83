"""Whether a measured run's joules can be used: pure, from the run itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Final

from rejoule.traces.run import Conditions, Run

SHORT_S: Final = 10.0
"""Counters tick every 100 ms: shorter windows are uncertain by more than half a per cent."""
LOOPED_S: Final = 15.0
"""How long a window is to become, by more loops."""
SURE: Final = 0.01
"""Half-width of the 95 % interval, relative, under which a short window is good enough."""
DISAGREEMENT: Final = 0.03
"""Counter against sampled power, over windows that are not short: sensors see power for a part of the time only."""

RESTLESS: Final = 0.10
"""Idle power after a run against before it. On H200s 100 runs alone lay between −1.7 and +3.4 %, those beside another
process at +76 % and above (docs/weights.md)."""
COMPANY: Final = 0.02
"""Share of a run's joules from which power that is not its own matters."""


def judged(run: Run) -> Run:
    """The run with the reasons against using its joules, where it was measured."""
    if run.conditions is None or not run.measured:
        return run
    return replace(run, conditions=replace(run.conditions, rejected=rejections(run)))


def rejections(run: Run) -> tuple[str, ...]:
    """Why the joules of a measured run should not be used, each with what to do about it."""
    if run.conditions is None:
        return ()
    found = (*_conditions(run.conditions), *_company(run, run.conditions), *_energy(run))
    return (*run.conditions.rejected, *(reason for reason in found if reason not in run.conditions.rejected))


def advice(run: Run) -> str | None:
    """What would make a short measured run more certain; ``None`` if nothing need."""
    sure = _relative_uncertainty(run)
    if not run.measured or run.energy.gpu_j is None or run.makespan_s >= SHORT_S or sure is None or sure >= SURE:
        return None
    return f"measured over {run.makespan_s:.1f} s only: --loops {loops_needed(run)} makes it more certain"


def loops_needed(run: Run) -> int:
    """How many loops make a run long enough to measure."""
    return ceil(LOOPED_S / max(run.makespan_s, 1e-3) * run.configuration.loops)


def _conditions(held: Conditions) -> Iterator[str]:
    if held.thermal_s:
        yield f"heat held the clocks down for {held.thermal_s:.2f} s: cool the GPUs, or run under a lower power cap"
    if held.brake_s:
        yield f"a hardware power brake held the clocks down for {held.brake_s:.2f} s: check the host's power supply"
    if held.foreign_processes:
        names = ", ".join(str(pid) for pid in held.foreign_processes)
        yield f"other processes used these GPUs ({names}): end them, or choose other GPUs by CUDA_VISIBLE_DEVICES"


def _company(run: Run, held: Conditions) -> Iterator[str]:
    """NVML does not name processes everywhere, and the steps of a run do not tell of others; idle power does."""
    if held.loaded_w is None or held.after_w is None or not run.energy.gpu_j:
        return
    more_w = held.after_w - held.loaded_w
    if more_w > RESTLESS * held.loaded_w and more_w * run.makespan_s > COMPANY * run.energy.gpu_j:
        yield (
            f"the idle GPUs drew {held.after_w:.0f} W after the run and {held.loaded_w:.0f} W before: "
            "something else drew power on them, or they were not at rest; end it, or let them rest longer with idle_s"
        )


def _energy(run: Run) -> Iterator[str]:
    gpu_j, integrated_j = run.energy.gpu_j, run.energy.integrated_j
    if gpu_j is None:
        return
    short = run.makespan_s < SHORT_S
    if not short and integrated_j is not None and gpu_j > 0 and abs(integrated_j / gpu_j - 1) > DISAGREEMENT:
        yield (
            f"the energy counter and the sampled power disagree by {abs(integrated_j / gpu_j - 1):.1%}: "
            "see rejoule doctor, and repeat the run"
        )
    sure = _relative_uncertainty(run)
    if short and (sure is None or sure >= SURE):
        known = "" if sure is None else f" and known to ±{sure:.1%} only"
        yield (
            f"measured over {run.makespan_s:.1f} s{known}: go through the trace more often, --loops {loops_needed(run)}"
        )


def _relative_uncertainty(run: Run) -> float | None:
    gpu_j, half_width_j = run.energy.gpu_j, run.energy.uncertainty_j.get("gpu")
    return half_width_j / gpu_j if gpu_j and half_width_j is not None else None

"""Cap, steady state and conditions of a run in words, the same for a terminal and a page."""

from __future__ import annotations

from collections.abc import Sequence

from rejoule.analysis.statistics import Mean
from rejoule.analysis.summary.cells import Cell
from rejoule.analysis.summary.evidence import Evidence
from rejoule.analysis.summary.units import UNKNOWN, amount, percent
from rejoule.traces.by_gpu import EQUAL, GpuEnergy
from rejoule.traces.clock_curve import mark, may_bind

Facts = tuple[tuple[str, str], ...]
"""Names with their values; what is not known is left out, or a dash where its neighbours are known."""


def components(found: Evidence, gpu_j: float | None) -> Facts:
    """What drew the joules, with shares of the GPU's; empty where only the GPU's sum is known of a modelled run."""
    whole = {"GPU core": gpu_j, "GPU memory (HBM)": gpu_j}
    if all(joules is None for joules in found.components.values()):
        return ()
    return tuple((name, _shared(joules, whole.get(name))) for name, joules in found.components.items())


def by_gpu_facts(gpus: Sequence[GpuEnergy], of_j: float | None) -> Facts:
    """What each of several GPUs took; of a model's equal shares one line says that they are."""
    if any(gpu.assumed for gpu in gpus):
        return (("each GPU", f"{_shared(gpus[0].energy_j, of_j)}: {EQUAL}"),)
    return tuple((f"GPU {at} ({gpu.name[:12]})", _shared(gpu.energy_j, of_j)) for at, gpu in enumerate(gpus))


def _shared(joules: float | None, of_j: float | None) -> str:
    share = f" ({percent(joules / of_j)})" if joules is not None and of_j else ""
    return amount(joules, "J") + share


def total_half_width_j(total: Mean | None, found: Evidence) -> float | None:
    """Of the 95 % interval of GPU joules: over trials, or of one run its window's."""
    if total is not None and total.interval is not None:
        return (total.interval.high - total.interval.low) / 2.0
    return found.uncertainty_j


def control(found: Evidence) -> Facts:
    """What held the clocks, and where they were."""
    return (
        ("cap in force", amount(found.in_force_w, "W")),
        ("bound", UNKNOWN if found.bound_fraction is None else f"{percent(found.bound_fraction)} of the busy time"),
        ("mean SM clock", amount(found.sm_clock_mhz, "MHz")),
    )


def steady_state(found: Evidence) -> Facts:
    """Figures of the time in which the batch was full."""
    full = found.steady
    if full is None:
        return ()
    return (
        ("steady state", f"batch {full.batch} for {amount(full.duration_s, 's')}"),
        ("steady power", amount(full.power_w, "W")),
        ("steady throughput", f"{amount(full.tokens_per_s, 'tokens')} tokens/s"),
        ("steady energy a token", amount(full.j_per_token, "J")),
    )


def conditions(found: Evidence) -> Facts:
    """What held around a measured run; empty for a modelled one."""
    facts: list[tuple[str, str]] = []
    idle = (("bare", found.bare_w), ("model loaded", found.loaded_w), ("after the run", found.after_w))
    known = [f"{amount(watts, 'W')} {when}" for when, watts in idle if watts is not None]
    if known:
        facts.append(("idle power", ", ".join(known)))
    if found.start_temperature_c is not None:
        end = UNKNOWN if found.end_temperature_c is None else f"{found.end_temperature_c:.0f}"
        facts.append(("temperature", f"{found.start_temperature_c:.0f} to {end} °C"))
    if found.warm_ups is not None:
        facts.append(("warm-ups", str(found.warm_ups)))
    if found.sampler_share is not None:
        facts.append(("sampling took", f"{percent(found.sampler_share)} of a core"))
    return tuple(facts)


def cap_mark(cell: Cell) -> str:
    """What became of a configuration's cap, where there was one and it is known, and how far an assumed clock curve
    may put its joules off."""
    if cell.failed_calls:
        return "calls failed"
    if cell.unmet_cap:
        return f"{cell.in_force_w:g} W in force"
    first = cell.trials[0].run
    if cell.configuration.power_cap_w is None or cell.bound_fraction is None:
        return mark(first)
    if cell.bound_fraction == 0.0:
        return "cap may bind" if may_bind(first) else "cap not bound"
    return " ".join(filter(None, (f"bound {percent(cell.bound_fraction)}", mark(first))))

"""This machine's GPUs while they are measured: one sampler for an experiment, and what it says of each run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from rejoule.replay.energy.host import this_host
from rejoule.replay.energy.nvml import GpuLost, has_gpu, open_nvml
from rejoule.replay.energy.processes import foreign_processes
from rejoule.replay.energy.sampler import Sampler
from rejoule.replay.energy.samples import Samples
from rejoule.replay.energy.window import AFTER_S, MARGIN_S, WindowEnergy, energy_during, mean_during, measure, union
from rejoule.traces import RejouleError
from rejoule.traces.run import Conditions, Energy, PowerCap, Reading

Stretch = tuple[float, float]
UNKNOWN: Final = "its joules are not known: "
"""How a reason to leave a run's joules alone begins where there are none."""


@dataclass(frozen=True, slots=True)
class GpuRun:
    """What the GPUs took in a run, and what held around them."""

    energy: Energy
    power_cap: PowerCap
    readings: tuple[Reading, ...] | None
    conditions: Conditions


class GpuWatch:
    """Measures runs from a sampler's file."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def focus(self) -> None:
        """To be called where a window begins or ends, so that its joules are known there to less than a tick."""
        self._sampler.focus()

    async def window(self, start_s: float, end_s: float) -> tuple[Samples, WindowEnergy]:
        """The window between two times of the monotonic clock, once the counters have ticked twice after it."""
        await self._sampler.settle(end_s, ticks=2)
        samples = await asyncio.to_thread(self._sampler.samples, start_s - MARGIN_S, end_s + MARGIN_S)
        return samples, measure(samples, start_s, end_s)

    async def power_w(self, start_s: float, end_s: float) -> float | None:
        """Mean power of all GPUs together between two times of the monotonic clock."""
        _, window = await self.window(start_s, end_s)
        return None if window.energy_j is None or end_s <= start_s else window.energy_j / (end_s - start_s)

    async def run(self, start_s: float, end_s: float, calls: Iterable[Stretch], port: int | None) -> GpuRun:
        """The run between two times; ``calls`` are in seconds from its start, ``port`` is where its server listens."""
        await asyncio.sleep(end_s + AFTER_S - monotonic())
        samples, window = await self.window(start_s, end_s)
        foreign, split = await asyncio.to_thread(_company, port)
        return gpu_run(samples, window, (start_s, end_s), calls, foreign, split)


class GpuSampling:
    """Keeps a sampler going from the first ``watch`` to ``close``; ``folder`` takes its files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = AsyncExitStack()
        self._sampler: Sampler | None = None

    async def watch(self) -> GpuWatch | None:
        """A watch over this machine's GPUs, its sampler running; ``None`` where there is no GPU."""
        if self._sampler is None or not self._sampler.alive:
            if not has_gpu():
                return None
            await self._open.aclose()
            self._sampler = await self._open.enter_async_context(Sampler(_unused(self._folder)))
        return GpuWatch(self._sampler)

    async def close(self) -> None:
        """Ends the sampler."""
        await self._open.aclose()


def gpu_run(
    samples: Samples,
    window: WindowEnergy,
    between: Stretch,
    calls: Iterable[Stretch],
    foreign: tuple[int, ...],
    split: Sequence[str],
) -> GpuRun:
    """The run ``between`` two times of the samples' clock, of which ``window`` was measured.

    ``calls`` are in seconds from its start. ``foreign`` are processes of others on these GPUs, ``split`` the UUIDs of
    those that are not measured whole.
    """
    start_s, end_s = between
    samples, length_s = samples.between(start_s, end_s), end_s - start_s
    busy = [(max(0.0, start), min(length_s, end)) for start, end in union(calls) if start < length_s and end > 0]
    readings = window.readings
    idle_j = None if window.energy_j is None else max(0.0, window.energy_j - energy_during(readings, busy))
    widths_j = {"gpu": window.uncertainty_j, "integrated": window.integrated_uncertainty_j}
    late_s, cpu_share = samples.lateness_s(0.99), samples.cpu_share
    return GpuRun(
        energy=Energy(
            gpu_j=window.energy_j,
            idle_j=idle_j,
            source={} if window.source is None else {"gpu": window.source},
            hbm_j=window.hbm_j,
            uncertainty_j={name: width_j for name, width_j in widths_j.items() if width_j is not None},
            integrated_j=window.integrated_j,
        ),
        power_cap=PowerCap(
            in_force_w=window.limit_w, bound_fraction=mean_during(readings, lambda r: r.cap_bound, busy)
        ),
        readings=readings or None,
        conditions=Conditions(
            gpus=tuple(track.uuid for track in samples.gpus),
            gpu_names=tuple(track.name for track in samples.gpus),
            host=this_host(),
            driver=samples.driver,
            start_temperature_c=window.start_temperature_c,
            end_temperature_c=window.end_temperature_c,
            sm_clock_mhz=mean_during(readings, lambda r: r.sm_clock_mhz, busy),
            thermal_s=window.thermal_s,
            brake_s=window.brake_s,
            foreign_processes=foreign,
            sampler={
                "period_s": samples.period_s,
                "start_s": start_s,
                "samples": samples.count,
                **({} if cpu_share is None else {"cpu_share": cpu_share}),
                **({} if late_s is None else {"late_p99_s": late_s}),
            },
            rejected=(
                *(f"{UNKNOWN}{reason}" for reason in window.missing),
                *(f"GPU {uuid} is split (MIG), its sensors speak for all of it: measure it whole" for uuid in split),
            ),
        ),
    )


def _company(port: int | None) -> tuple[tuple[int, ...], list[str]]:
    """Foreign processes on the GPUs, and the GPUs that are split."""
    try:
        nvml = open_nvml()
        if nvml is None:
            return (), []
        with nvml:
            pids = [pid for gpu in nvml.gpus for pid in gpu.processes()]
            return foreign_processes(pids, port), [gpu.uuid for gpu in nvml.gpus if gpu.mig()]
    except (GpuLost, RejouleError):  # a GPU is gone: the samples tell, and the run is kept without joules
        return (), []


def _unused(folder: Path) -> Path:
    number = 1
    while (path := folder / f"gpu-{number}.samples").exists():
        number += 1
    return path

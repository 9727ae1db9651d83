"""The GPUs' own energy counters, read before and after."""

from __future__ import annotations

from rejoule.replay.energy.nvml import GpuLost, Nvml, open_nvml


class NvmlMeter:
    """Sums the energy counters of GPUs: millijoules since the driver was loaded, on Volta and newer."""

    component = "gpu"
    source = "nvml-counter"

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml

    async def read_j(self) -> float | None:
        try:
            counts_mj = [gpu.sample().energy_mj for gpu in self._nvml.gpus]
        except GpuLost:
            return None
        told_mj = [count for count in counts_mj if count is not None]
        return sum(told_mj) / 1000 if len(told_mj) == len(counts_mj) else None

    async def close(self) -> None:
        self._nvml.close()


def open_counter() -> NvmlMeter | None:
    """A meter over this machine's GPUs; ``None`` where there is no NVIDIA driver, no GPU or no energy counter."""
    nvml = open_nvml()
    if nvml is None:
        return None
    if any(gpu.sample().energy_mj is None for gpu in nvml.gpus):
        nvml.close()
        return None
    return NvmlMeter(nvml)

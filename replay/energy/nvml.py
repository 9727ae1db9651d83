"""The GPU's own energy counter, through NVML.

``nvmlDeviceGetTotalEnergyConsumption`` counts millijoules since the driver was loaded, on Volta and newer.
"""

from __future__ import annotations

from typing import Any

import pynvml


class NvmlMeter:
    """Sums the energy counters of every GPU of this machine."""

    component = "gpu"
    source = "nvml-counter"

    def __init__(self, handles: list[Any]) -> None:
        self._handles = handles

    async def read_j(self) -> float | None:
        try:
            return sum(float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) for handle in self._handles) / 1000
        except pynvml.NVMLError:
            return None

    async def close(self) -> None:
        pynvml.nvmlShutdown()


def open_nvml() -> NvmlMeter | None:
    """A meter over this machine's GPUs; ``None`` where there is no NVIDIA driver, no GPU or no energy counter."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        handles = []
    if not handles:
        pynvml.nvmlShutdown()
        return None
    return NvmlMeter(handles)


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU with a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    try:
        return int(pynvml.nvmlDeviceGetCount()) > 0
    finally:
        pynvml.nvmlShutdown()

"""Samples of stand-in GPUs on a virtual clock, as the sampler would have taken them: made in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rejoule.replay.energy import fake
from rejoule.replay.energy.samples import MISSING, NAN, RECORD, VALUES, Samples, Track

PERIOD_S = 0.023
READ_S = 0.004
"""As long as one takes on an H200."""
SENSED = (
    "energy_mj", "power_w", "average_w", "hbm_w", "sm_clock_mhz", "temperature_c", "reasons", "cap_ns", "thermal_ns",
    "brake_ns",
)  # fmt: skip


@dataclass
class Bench:
    """GPUs that follow scenarios for ``length_s``, and all that was sampled of them."""

    folder: Path
    gpus: list[fake.FakeGpu]
    length_s: float
    seed: int = 0
    samples: Samples = field(init=False)
    start_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.nvml = fake.create(self.folder, self.gpus, virtual=True)
        self.start_s = self.nvml.now_ns / 1e9
        self.nvml.advance_s(self.length_s + 1)
        self.samples = self.sampled()

    def sampled(self) -> Samples:
        rng = np.random.default_rng(self.seed)
        due_s = self.start_s + np.arange(0.0, self.length_s, PERIOD_S)
        tracks = []
        for i in range(len(self.gpus)):
            begun_s = due_s + rng.exponential(2e-4, len(due_s)) + i * READ_S
            tracks.append(Track(f"GPU-{i}", "Fake H200", self._records(i, begun_s)))
        return Samples("580", PERIOD_S, 1, 0.0, tuple(tracks))

    def window(self, start_s: float, end_s: float) -> Samples:
        """What the sampler's file is asked for."""
        cut = tuple(
            Track(t.uuid, t.name, t.records[(t.at_s >= start_s - 3) & (t.at_s <= end_s + 3)]) for t in self.samples.gpus
        )
        return Samples("580", PERIOD_S, 1, 0.0, cut)

    def true_j(self, start_s: float, end_s: float) -> float:
        at_ns = round(start_s * 1e9), round(end_s * 1e9)
        return sum(self.nvml.true_energy_j(i, *at_ns) for i in range(len(self.gpus)))

    def _records(self, gpu: int, begun_s: Any) -> Any:
        at_ns = np.round((begun_s + READ_S / 2) * 1e9).astype(np.int64)
        sensed = self.nvml.sensed(gpu, at_ns)
        records = np.zeros(len(at_ns), RECORD)
        records["gpu"] = gpu
        records["host_ns"] = np.round(begun_s * 1e9)
        records["end_ns"] = records["host_ns"] + round(READ_S * 1e9)
        records["epoch_us"] = records["host_ns"] // 1000 + 10**15
        records["wall_us"] = records["epoch_us"] + round(READ_S / 2 * 1e6)
        for column in VALUES:
            records[column] = NAN
        for column in SENSED:
            records[column] = getattr(sensed, column)
        records["limit_w"] = 700
        return records


def without(samples: Samples, *columns: str) -> Samples:
    """The same samples of GPUs that do not have these sensors."""
    for track in samples.gpus:
        for column in columns:
            track.records[column] = NAN if column in VALUES else MISSING
    return samples

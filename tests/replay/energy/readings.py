"""Samples of stand-in GPUs on a virtual clock, as the sampler would have taken them: made in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rejoule.replay.energy import fake
from rejoule.replay.energy.counter_reads import CounterReads
from rejoule.replay.energy.samples import MISSING, NAN, RECORD, VALUES, Samples, Track
from rejoule.replay.energy.window import MARGIN_S

PERIOD_S = 0.023
FRUGAL_PERIOD_S = 0.047
GRID_S = 0.001
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

    def sampled(self, period_s: float = PERIOD_S) -> Samples:
        rng = np.random.default_rng(self.seed)
        due_s = self.start_s + np.arange(0.0, self.length_s, period_s)
        tracks = []
        for i in range(len(self.gpus)):
            begun_s = due_s + rng.exponential(2e-4, len(due_s)) + i * READ_S
            tracks.append(Track(f"GPU-{i}", "Fake H200", self._records(i, begun_s)))
        return Samples("580", period_s, 1, 0.0, tuple(tracks))

    def window(self, start_s: float, end_s: float) -> Samples:
        """What the sampler's file is asked for."""
        return self.samples.between(start_s - 3, end_s + 3)

    def true_j(self, start_s: float, end_s: float) -> float:
        at_ns = round(start_s * 1e9), round(end_s * 1e9)
        return sum(self.nvml.true_energy_j(i, *at_ns) for i in range(len(self.gpus)))

    def frugal(self, start_s: float, end_s: float, off: float = 0.0) -> Samples:
        """The same where each read of the first GPU's counter is dear, and the window's ends were told to the sampler.

        The counter's reads are those that ``CounterReads`` asks for; ``off`` is by how much of itself the period that
        the file names is off.
        """
        rng = np.random.default_rng(self.seed)
        track = self._cheap.gpus[0]
        begin_s = max(self.start_s + 0.1, start_s - MARGIN_S)
        reads = CounterReads(READ_S, begin_s)
        begun_s: list[float] = []
        edges = [start_s, end_s]
        while (at_s := min(reads.due_s, edges[0] if edges else np.inf)) < min(end_s + 1, self.start_s + self.length_s):
            if edges and at_s == edges[0]:
                reads.focus(edges.pop(0))
                continue
            begun_s.append(max(at_s, begun_s[-1] + READ_S if begun_s else 0.0) + rng.exponential(2e-4))
            seen = round((begun_s[-1] + READ_S / 2 - self.start_s) / GRID_S)
            reads.told(begun_s[-1], begun_s[-1] + READ_S, int(self._counter_mj[seen]))
        counted = self._records(0, np.array(begun_s))
        seen_at = np.round((np.array(begun_s) + READ_S / 2 - self.start_s) / GRID_S).astype(np.int64)
        counted["energy_mj"] = self._counter_mj[seen_at]
        for column in VALUES:
            counted[column] = NAN
        for column in ("reasons", "cap_ns", "thermal_ns", "brake_ns"):
            counted[column] = MISSING
        records = np.concatenate([track.records, counted])
        records = records[np.argsort(records["host_ns"])]
        assert reads.pace is not None
        tick_s = reads.pace.period_s * (1 + off)
        whole = Samples("580", FRUGAL_PERIOD_S, 1, 0.0, (Track("GPU-0", "Fake", records, tick_s),))
        return whole.between(start_s - MARGIN_S, end_s + 1)

    @cached_property
    def _cheap(self) -> Samples:
        return without(self.sampled(FRUGAL_PERIOD_S), "energy_mj")

    @cached_property
    def _counter_mj(self) -> Any:
        at_s = self.start_s + np.arange(0.0, self.length_s + 0.5, GRID_S)
        return self.nvml.sensed(0, np.round(at_s * 1e9).astype(np.int64)).energy_mj

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
